/* Register tiles: P pixels (vectors of images) by F filters (broadcast weights).
 *
 * A tile keeps P * F accumulators in registers; per step it loads P vectors and F
 * scalars for P * F multiply-adds.  Two things bound it: the registers (P * F
 * accumulators + P inputs + 1 weight), and the loads per multiply-add,
 * (P + F) / (P * F), that must stay below what the core loads while it multiplies.
 * A tile that spills costs several times more than one that is too small, so the
 * sizes are an instruction set's own.  TILE_MAX(F) is the P that fits beside F
 * filters; every smaller P exists too, for the edges. */
#ifndef TC_TILES_H
#define TC_TILES_H

#include "vector.h"

#if LANES == 16 || defined(__aarch64__)
/* 32 registers: up to 24 accumulators; 3 x 8 needs 3 + 8 loads for 24 multiply-adds. */
#define TILES(X) \
    X(1, 16) \
    X(1, 8) X(2, 8) X(3, 8) \
    X(1, 4) X(2, 4) X(3, 4) X(4, 4) X(5, 4) X(6, 4) \
    X(1, 2) X(2, 2) X(3, 2) X(4, 2) X(5, 2) X(6, 2) X(7, 2) X(8, 2) \
    X(1, 1) X(2, 1) X(3, 1) X(4, 1) X(5, 1) X(6, 1) X(7, 1) X(8, 1)
#define TILE_FILTERS 8
#define TILE_FILTERS_ONE_PIXEL 16
static const signed char tile_pixels[17] = {[1] = 8, [2] = 8, [4] = 6, [8] = 3, [16] = 1};
#else
/* 16 registers: 12 accumulators + 3 inputs + 1 weight.  4 x 3 and 6 x 2 fit as well
 * and load no less; 3 x 4 divides the usual filter counts. */
#define TILES(X) \
    X(1, 8) \
    X(1, 4) X(2, 4) X(3, 4) \
    X(1, 2) X(2, 2) X(3, 2) X(4, 2) X(5, 2) \
    X(1, 1) X(2, 1) X(3, 1) X(4, 1) X(5, 1) X(6, 1) X(7, 1) X(8, 1)
#define TILE_FILTERS 4
#define TILE_FILTERS_ONE_PIXEL 8
static const signed char tile_pixels[17] = {[1] = 8, [2] = 5, [4] = 3, [8] = 1};
#endif

/* Filters of the next tile when `left` remain: a power of two, `widest` at most.
 * TILE_FILTERS suits tiles of several pixels; a dense layer has one pixel and takes
 * TILE_FILTERS_ONE_PIXEL, enough accumulators to hide a multiply-add's latency. */
ALWAYS_INLINE int tile_filters(ptrdiff_t left, int widest) {
    while (widest > left) widest /= 2;
    return widest;
}

#define UNROLL _Pragma("GCC unroll 16")

#endif
