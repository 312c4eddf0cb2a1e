/* Functions of whole NHWC arrays, threaded over images. */
#include <stdlib.h>

#include "cpu.h"
#include "program.h"
#include "threads.h"

/* Moving a byte takes about as long as two multiply-adds on vectors. */
static int threads_for(double bytes, ptrdiff_t n) { return tc_threads_for(2.0 * bytes, n); }

int tc_max_pool2d(const float *x, ptrdiff_t n, ptrdiff_t h, ptrdiff_t w, ptrdiff_t c, ptrdiff_t window_height,
                  ptrdiff_t window_width, ptrdiff_t stride_height, ptrdiff_t stride_width, ptrdiff_t pad_top,
                  ptrdiff_t pad_left, ptrdiff_t oh, ptrdiff_t ow, float *y, int32_t *index) {
    const tc_kernels *k = tc_selected_kernels();
    int threads = threads_for(4.0 * (double)n * (double)(h * w * c), n);
    (void)threads;
    TC_PRAGMA(omp parallel for num_threads(threads) if (threads > 1))
    for (ptrdiff_t i = 0; i < n; i++)
        k->max_pool_array(x + i * h * w * c, h, w, c, window_height, window_width, stride_height, stride_width, pad_top,
                          pad_left, oh, ow, y + i * oh * ow * c, index ? index + i * oh * ow * c : NULL);
    return TC_OK;
}

int tc_max_pool2d_backward(const float *dy, const int32_t *index, ptrdiff_t n, ptrdiff_t h, ptrdiff_t w, ptrdiff_t c,
                           ptrdiff_t window_height, ptrdiff_t window_width, ptrdiff_t stride_height,
                           ptrdiff_t stride_width, ptrdiff_t pad_top, ptrdiff_t pad_left, ptrdiff_t oh, ptrdiff_t ow,
                           float *dx) {
    const tc_kernels *k = tc_selected_kernels();
    int threads = threads_for(4.0 * (double)n * (double)(h * w * c), n);
    (void)threads;
    TC_PRAGMA(omp parallel for num_threads(threads) if (threads > 1))
    for (ptrdiff_t i = 0; i < n; i++)
        k->max_pool_array_backward(dy + i * oh * ow * c, index + i * oh * ow * c, h, w, c, window_height, window_width,
                                   stride_height, stride_width, pad_top, pad_left, oh, ow, dx + i * h * w * c);
    return TC_OK;
}

/* A multiple of all numbers of lanes. */
#define ROWS_A_PIECE 64

int tc_softmax_cross_entropy(const float *logits, const int32_t *labels, const float *dense, ptrdiff_t n, ptrdiff_t c,
                             double *loss, float *gradient) {
    const tc_kernels *k = tc_selected_kernels();
    float *losses = malloc(sizeof(float) * (size_t)(n + 1));
    if (!losses) return TC_ERROR_MEMORY;
    float share = 1.0f / (float)n;
    int threads = threads_for(4.0 * (double)n * (double)c, n); /* few rows take less time than a thread's start */
    (void)threads;
    const ptrdiff_t pieces = (n + ROWS_A_PIECE - 1) / ROWS_A_PIECE;
    TC_PRAGMA(omp parallel for num_threads(threads) if (threads > 1))
    for (ptrdiff_t piece = 0; piece < pieces; piece++) {
        const ptrdiff_t i = piece * ROWS_A_PIECE, rows = n - i < ROWS_A_PIECE ? n - i : ROWS_A_PIECE;
        k->softmax_cross_entropy_rows(logits + i * c, labels ? labels + i : NULL, dense ? dense + i * c : NULL, rows, c,
                                      share, losses + i, gradient + i * c);
    }
    *loss = 0;
    for (ptrdiff_t i = 0; i < n; i++) *loss += losses[i];
    *loss /= (double)n;
    free(losses);
    return TC_OK;
}
