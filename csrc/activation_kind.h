/* What backward needs of an activation; plain C, for the planner as well as the kernels. */
#ifndef TC_ACTIVATION_KIND_H
#define TC_ACTIVATION_KIND_H

#include "tinyconv.h"

/* Whether the derivative is taken from the function's input (1) or from its output
 * (0), which is there anyway.  parameters as in tinyconv/engine/program.py. */
static inline int activation_saves_input(int function, const float *parameters) {
    switch (function) {
    case TC_RELU: /* negative_slope, max_value, threshold */
        return !(parameters[0] == 0 && parameters[1] == __builtin_inff() && parameters[2] == 0);
    case TC_LEAKY_RELU: /* negative_slope; with one <= 0 the output's sign says nothing of the input's */
        return !(parameters[0] > 0);
    case TC_ELU: /* alpha; the same */
        return !(parameters[0] >= 0);
    case TC_SILU:
    case TC_HARD_SILU:
    case TC_GELU:
    case TC_GELU_TANH:
    case TC_MISH:
    case TC_TANH_SHRINK:
        return 1;
    default:
        return 0;
    }
}

#endif
