/* Prediction of few images, with filters in the lanes. */
#ifndef TC_FEW_H
#define TC_FEW_H

#include "program.h"

/* The values of one image: [height][left + width + right][padded channels]. */
typedef struct few_tensor {
    ptrdiff_t height, width, channels, padded, left, right, row_stride, offset; /* in floats */
} few_tensor;

/* few_map.c.  Where the entries of a map read in x; NULL without memory. */
ptrdiff_t *tc_few_map_sources(const tc_map *map, const few_tensor *x);
/* y (in memory m) = the map of x: overwritten, but for its margins and padding. */
void tc_few_apply_map(const tc_map *map, const ptrdiff_t *sources, float *m, const few_tensor *x,
                      const few_tensor *y);

/* prelu.c.  y (in memory m): overwritten, but for its margins and padding. */
void tc_few_prelu(const tc_program *program, const tc_slopes *slopes, float *m, const few_tensor *x,
                  const few_tensor *y);

/* The plan of these operations for one image at a time; NULL without memory.  Its
 * rescaling is that of the program. */
tc_few *tc_few_create(const tc_program *program, const tc_op *ops, ptrdiff_t count);
void tc_few_destroy(tc_few *few);
/* Packs the weights again, after they changed. */
void tc_few_pack(const tc_program *program, tc_few *few);
/* Whether there is a plan and n images are few: below, image lanes are mostly idle. */
int tc_few_pays(const tc_program *program, ptrdiff_t n);
/* As tc_predict. */
int tc_few_predict(const tc_program *program, tc_few *few, const tc_batch *batch, float *output);

#endif
