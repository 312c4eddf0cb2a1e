/* Constant linear maps of values (tc_map): what gathers are made of. */
#include <stdlib.h>
#include <string.h>

#include "program.h"

int tc_map_fits(const tc_map *map, ptrdiff_t inputs, ptrdiff_t rows) {
    if (map->rows != rows || !map->starts || map->starts[0] != 0) return 0;
    for (ptrdiff_t o = 0; o < rows; o++)
        if (map->starts[o + 1] < map->starts[o]) return 0;
    for (ptrdiff_t k = 0; k < map->starts[rows]; k++)
        if (map->indices[k] < 0 || map->indices[k] >= inputs) return 0;
    return 1;
}

/* Room for a map of so many rows and entries; returns 0 without memory. */
static int allocate(tc_map *map, ptrdiff_t rows, ptrdiff_t run, ptrdiff_t entries, int factored) {
    int32_t *starts = calloc((size_t)rows + 1, sizeof *starts);
    int32_t *indices = malloc(sizeof *indices * (size_t)(entries + 1));
    float *factors = factored ? malloc(sizeof *factors * (size_t)(entries + 1)) : NULL;
    *map = (tc_map){rows, run, starts, indices, factors};
    return starts && indices && (factors || !factored);
}

int tc_map_copy(const tc_map *map, tc_map *copy) {
    ptrdiff_t entries = map->starts[map->rows];
    if (!allocate(copy, map->rows, map->run, entries, map->factors != NULL)) return 0;
    memcpy((int32_t *)copy->starts, map->starts, sizeof(int32_t) * (size_t)(map->rows + 1));
    if (entries) memcpy((int32_t *)copy->indices, map->indices, sizeof(int32_t) * (size_t)entries);
    if (entries && map->factors) memcpy((float *)copy->factors, map->factors, sizeof(float) * (size_t)entries);
    return 1;
}

int tc_map_transpose(const tc_map *map, ptrdiff_t inputs, tc_map *transposed) {
    ptrdiff_t entries = map->starts[map->rows];
    if (!allocate(transposed, inputs, map->run, entries, map->factors != NULL)) return 0;
    int32_t *starts = (int32_t *)transposed->starts, *indices = (int32_t *)transposed->indices;
    float *factors = (float *)transposed->factors;
    for (ptrdiff_t k = 0; k < entries; k++) starts[map->indices[k] + 1]++;
    for (ptrdiff_t i = 0; i < inputs; i++) starts[i + 1] += starts[i];
    /* From the last entry down, each to the end of its row: starts[i + 1] comes to where row i starts. */
    for (ptrdiff_t o = map->rows - 1; o >= 0; o--)
        for (ptrdiff_t k = map->starts[o + 1] - 1; k >= map->starts[o]; k--) {
            int32_t to = --starts[map->indices[k] + 1];
            indices[to] = (int32_t)o;
            if (factors) factors[to] = map->factors[k];
        }
    memmove(starts, starts + 1, sizeof *starts * (size_t)inputs);
    starts[inputs] = (int32_t)entries;
    return 1;
}

void tc_map_clear(tc_map *map) {
    free((int32_t *)map->starts);
    free((int32_t *)map->indices);
    free((float *)map->factors);
}

int tc_plan_maps(tc_program *p, const tc_op *ops, ptrdiff_t count, tc_op **own) {
    *own = malloc(sizeof **own * (size_t)count);
    p->maps = calloc((size_t)(2 * count), sizeof *p->maps);
    if (!*own || !p->maps) return TC_ERROR_MEMORY;
    memcpy(*own, ops, sizeof *ops * (size_t)count);
    for (ptrdiff_t i = 0; i < count; i++) {
        if (ops[i].kind != TC_OP_GATHER) continue;
        tc_map *map = &p->maps[p->map_count];
        ptrdiff_t inputs = ops[i].in_height * ops[i].in_width * ops[i].in_channels / ops[i].map->run;
        p->map_count += 2;
        if (!tc_map_copy(ops[i].map, map) || !tc_map_transpose(map, inputs, map + 1)) return TC_ERROR_MEMORY;
        (*own)[i].map = map;
    }
    return TC_OK;
}
