/* Losses and their gradients, images in the lanes. */
#ifndef TC_LOSSES_H
#define TC_LOSSES_H

#include "losses_elements.h"
#include "losses_positions.h"

/* *args->loss and, where asked for, args->gradient: both overwritten.  Every kind is a constant
 * in the loop that it ends up in. */
static void loss(const tc_loss_args *args) {
    const float outputs = (float)args->channels;
    switch (args->kind) {
    case TC_LOSS_CATEGORICAL_CROSSENTROPY:
        *args->loss = args->from_logits ? softmax_loss(args, 0) : share_loss(args, ENTROPY, 0, 0);
        break;
    case TC_LOSS_SPARSE_CATEGORICAL_CROSSENTROPY:
        *args->loss = args->from_logits ? softmax_loss(args, 1) : share_loss(args, ENTROPY, 0, 1);
        break;
    case TC_LOSS_CATEGORICAL_FOCAL_CROSSENTROPY:
        *args->loss = args->from_logits ? share_loss(args, FOCAL, 1, 0) : share_loss(args, FOCAL, 0, 0);
        break;
    case TC_LOSS_CATEGORICAL_HINGE: *args->loss = categorical_hinge_loss(args); break;
    case TC_LOSS_COSINE_SIMILARITY: *args->loss = cosine_loss(args); break;
    case TC_LOSS_BINARY_CROSSENTROPY:
        *args->loss = args->from_logits ? element_loss(args, outputs, sigmoid_entropy)
                                        : element_loss(args, outputs, binary_entropy);
        break;
    case TC_LOSS_BINARY_FOCAL_CROSSENTROPY:
        *args->loss = args->from_logits ? element_loss(args, outputs, sigmoid_focal)
                                        : element_loss(args, outputs, binary_focal);
        break;
    case TC_LOSS_MEAN_SQUARED_ERROR: *args->loss = element_loss(args, outputs, squared_error); break;
    case TC_LOSS_MEAN_ABSOLUTE_ERROR: *args->loss = element_loss(args, outputs, absolute_error); break;
    case TC_LOSS_MEAN_ABSOLUTE_PERCENTAGE_ERROR: *args->loss = element_loss(args, outputs, percentage_error); break;
    case TC_LOSS_MEAN_SQUARED_LOGARITHMIC_ERROR: *args->loss = element_loss(args, outputs, logarithmic_error); break;
    case TC_LOSS_HUBER: *args->loss = element_loss(args, outputs, huber_error); break;
    case TC_LOSS_LOG_COSH: *args->loss = element_loss(args, outputs, log_cosh_error); break;
    case TC_LOSS_POISSON: *args->loss = element_loss(args, outputs, poisson_element); break;
    case TC_LOSS_KL_DIVERGENCE: *args->loss = element_loss(args, 1.0f, divergence_element); break;
    case TC_LOSS_HINGE: *args->loss = element_loss(args, outputs, hinge_element); break;
    case TC_LOSS_SQUARED_HINGE: *args->loss = element_loss(args, outputs, squared_hinge_element); break;
    default: *args->loss = inner_product_loss(args); break;
    }
}

#undef EPSILON
#endif
