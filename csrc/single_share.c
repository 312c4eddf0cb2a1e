/* Whether one convolution of arrays is faster with filters in the lanes or with images. */
#include "single_parts.h"

/* Of a block of images that stays in L2. */
#define BLOCK_BYTES (1 << 20)

/* Cycles of an image here, from the multiply-adds of its vectors of filters, two a cycle,
 * and the floats that it brings in and out. */
static double image_cost(const tc_program *p, int direction, double floats) {
    const tc_kernels *k = p->kernels;
    const tc_step *step = p->steps;
    ptrdiff_t filters = direction == TC_SINGLE_BACKWARD_INPUT ? step->inputs : step->gradient.filters / step->groups;
    double vectors = (double)((filters + k->lanes - 1) / k->lanes);
    if (filters <= k->grouped_filters)
        vectors = filters <= 4 && direction != TC_SINGLE_BACKWARD_KERNEL ? 0.35 : 0.6;
    return p->flops / (double)filters * vectors * 0.6 + floats * 0.2;
}

/* Cycles of a block of images in image lanes.  A block that leaves L2 waits for its vectors;
 * the gradient of the kernel has the points of both sides, and reads x once a tile of filters. */
static double block_cost(const tc_program *p, int direction) {
    const tc_step *step = p->steps;
    double x = (double)p->tensors[0].size, floats = x + (double)(step->z_rows * step->z_columns * step->outputs);
    int points = step->forward_points.n, kernel = direction == TC_SINGLE_BACKWARD_KERNEL;
    int outside = floats * (kernel && points ? 2.5 : 1) * 4 * p->kernels->lanes > BLOCK_BYTES;
    double cost = p->flops * (kernel ? 0.75 : 0.6) + floats * (outside ? 24 : 5);
    if (!points) return cost;
    cost = p->flops * (kernel ? 0.75 : 0.6) * points / (4.0 * (double)step->kernel_columns) +
           floats * (outside ? 44 : 11);
    return kernel && outside ? cost + x * 1.5 * (double)step->outputs : cost;
}

ptrdiff_t tc_single_share(const tc_program *p, int direction, ptrdiff_t n) {
    const tc_step *step = p->steps;
    if (!p->single || (!p->single->forward.phases && direction != TC_SINGLE_BACKWARD_KERNEL)) return 0;
    if (step->forward.depthwise) return n; /* a change of layout is most of the other way */
    ptrdiff_t lanes = p->kernels->lanes, rest = n % lanes;
    double floats = (double)(p->tensors[0].size + step->z_rows * step->z_columns * step->outputs);
    double image = image_cost(p, direction, floats);
    double block = block_cost(p, direction);
    if (image * (double)lanes <= block) return n;
    return image * (double)rest <= block ? rest : 0;
}
