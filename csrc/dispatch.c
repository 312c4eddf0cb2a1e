/* Which table of kernels: chosen once, from those built and those the processor has. */
#include <string.h>

#include "cpu.h"
#include "program.h"

#if defined(TC_HAVE_AVX512)
extern const tc_kernels tc_kernels_avx512;
#endif
#if defined(TC_HAVE_AVX2)
extern const tc_kernels tc_kernels_avx2;
#endif
#if defined(__aarch64__)
extern const tc_kernels tc_kernels_neon;
#else
extern const tc_kernels tc_kernels_baseline;
#endif

static int always(void) { return 1; }

static const struct {
    const tc_kernels *kernels;
    int (*supported)(void);
} rows[] = {
#if defined(TC_HAVE_AVX512)
    {&tc_kernels_avx512, tc_cpu_has_avx512},
#endif
#if defined(TC_HAVE_AVX2)
    {&tc_kernels_avx2, tc_cpu_has_avx2},
#endif
#if defined(__aarch64__)
    {&tc_kernels_neon, always},
#else
    {&tc_kernels_baseline, always},
#endif
};
enum { ROWS = sizeof rows / sizeof rows[0] };

static const tc_kernels *selected;

const char *tc_isa_name(int i) { return i >= 0 && i < ROWS ? rows[i].kernels->name : NULL; }

int tc_isa_supported(int i) { return i >= 0 && i < ROWS && rows[i].supported(); }

int tc_select_isa(const char *name) {
    for (int i = 0; i < ROWS; i++)
        if (rows[i].supported() && (!name || strcmp(name, rows[i].kernels->name) == 0)) {
            selected = rows[i].kernels;
            return TC_OK;
        }
    return TC_ERROR_UNAVAILABLE;
}

const tc_kernels *tc_selected_kernels(void) {
    if (!selected) tc_select_isa(NULL);
    return selected;
}

const char *tc_selected_isa(void) { return tc_selected_kernels()->name; }

int tc_lanes(void) { return tc_selected_kernels()->lanes; }
