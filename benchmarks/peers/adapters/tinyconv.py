"""tinyconv, through its public interface.

The checked steps take the harness's batches through `train_on_batch`; what is timed
is one call of `fit` an epoch: shuffling, gathering, loss and metrics included."""

from __future__ import annotations

LIBRARY = "tinyconv"
ENVIRONMENT = None
INSTRUCTION_SETS = True
VARIANTS = {"W1": ("fit",), "W1e": ("fit",), "W2": ("fit",), "W3": ("predict_on_batch",),
            "W4": ("ops", "ops-tuned"), "W6": ("ops", "ops-tuned"), "W7": ("ops", "ops-tuned")}


def build(network):
    """The compiled model with the initial weights."""
    import tinyconv as tc

    from .. import workloads as wl

    layers = tc.layers
    model = tc.Sequential([layers.Input(shape=network.input_shape)])
    for layer in network.layers:
        match layer:
            case wl.Conv():
                model.add(layers.Conv2D(layer.filters, layer.size, padding=layer.padding, activation="relu"))
            case wl.Pool():
                model.add(layers.MaxPooling2D(2))
            case wl.Flatten():
                model.add(layers.Flatten())
            case wl.Dense():
                model.add(layers.Dense(layer.units, activation="relu" if layer.relu else "softmax"))
    adam = tc.optimizers.Adam(wl.LEARNING_RATE, beta_1=wl.BETA_1, beta_2=wl.BETA_2, epsilon=wl.EPSILON)
    model.compile(adam, "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.set_weights(wl.initial_weights(network))
    return model


class Engine:
    def __init__(self, variant, threads):
        import tinyconv

        tinyconv.set_num_threads(threads)

    def trainer(self, network, x, y, batch):
        model = build(network)
        images = len(x) // batch * batch

        def epoch(rows):
            if rows.size < images:  # the checked steps
                losses = [model.train_on_batch(x[i], y[i], return_dict=True)["loss"] for i in rows]
                return sum(losses) / len(losses)
            return model.fit(x[:images], y[:images], batch_size=batch, verbose=0).history["loss"][0]
        return epoch

    def fit(self, network, training, validation, batch, epochs):
        history = build(network).fit(*training, batch_size=batch, epochs=epochs, validation_data=validation,
                                           verbose=0).history
        return history["val_loss"][-1], history["val_accuracy"][-1]

    def predictor(self, network, batch):
        return build(network).predict_on_batch

    def convolution(self, case, x, kernel, dy):
        from tinyconv import ops

        how = {"strides": case.stride, "padding": case.padding, "dilation_rate": case.dilation,
               "groups": case.groups}
        return (lambda: ops.conv2d(x, kernel, **how),
                lambda: ops.conv2d_backward_input(dy, kernel, x.shape, **how),
                lambda: ops.conv2d_backward_kernel(x, dy, kernel.shape, **how))

    def max_pool(self, x, dy):
        from tinyconv import ops

        _, index = ops.max_pool2d(x, 2, return_index=True)
        return lambda: ops.max_pool2d(x, 2), lambda: ops.max_pool2d_backward(dy, index, x.shape, 2)

    def softmax_cross_entropy(self, logits, labels):
        from tinyconv import ops

        return lambda: ops.softmax_cross_entropy(logits, labels)[0]
