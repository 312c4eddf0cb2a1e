"""TensorFlow and Keras 3 on the CPU: `model.fit`, and a training step in a tf.function; both
with and without XLA."""

from __future__ import annotations

LIBRARY = "tensorflow"
ENVIRONMENT = "tf"
INSTRUCTION_SETS = True
_TRAINING = ("fit", "fit-xla", "function", "function-tuned", "function-xla")
VARIANTS = {"W1": _TRAINING, "W2": _TRAINING, "W1e": ("fit", "fit-xla"),
            "W3": ("function", "function-xla", "predict_on_batch"), "W4": ("raw-tuned",)}


def build(keras, network, batch=None, softmax=False):
    """The Keras model with the initial weights; logits, or probabilities."""
    from .. import workloads as wl

    layers = keras.layers
    x = inputs = keras.Input(network.input_shape, batch_size=batch)
    for layer in network.layers:
        match layer:
            case wl.Conv():
                x = layers.Conv2D(layer.filters, layer.size, padding=layer.padding, activation="relu")(x)
            case wl.Pool():
                x = layers.MaxPooling2D(2)(x)
            case wl.Flatten():
                x = layers.Flatten()(x)
            case wl.Dense():
                x = layers.Dense(layer.units, activation="relu" if layer.relu else None)(x)
    model = keras.Model(inputs, layers.Softmax()(x) if softmax else x)
    model.set_weights(wl.initial_weights(network))
    return model


class Engine:
    def __init__(self, variant, threads):
        import os

        os.environ["KERAS_BACKEND"] = "tensorflow"
        import keras
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        self.tf, self.keras = tf, keras
        self.words = variant.split("-")
        self.xla = "xla" in self.words

    def _adam(self):
        from .. import workloads as wl

        return self.keras.optimizers.Adam(wl.LEARNING_RATE, wl.BETA_1, wl.BETA_2, wl.EPSILON)

    def _compiled(self, network):
        model = build(self.keras, network)
        loss = self.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(self._adam(), jit_compile=self.xla, loss=loss, metrics=["accuracy"])
        return model

    def trainer(self, network, x, y, batch):
        if "fit" in self.words:
            return self._fit_trainer(network, x, y, batch)
        return self._function_trainer(network, x, y)

    def _fit_trainer(self, network, x, y, batch):
        """The checked steps take the given rows; an epoch of `fit` shuffles by itself."""
        model, images = self._compiled(network), len(x) // batch * batch

        def epoch(rows):
            if rows.size < images:
                losses = []
                for i in rows:
                    model.reset_metrics()
                    losses.append(model.train_on_batch(x[i], y[i], return_dict=True)["loss"])
                return float(sum(losses)) / len(losses)
            return model.fit(x[:images], y[:images], batch_size=batch, verbose=0).history["loss"][0]
        return epoch

    def _function_trainer(self, network, x, y):
        tf = self.tf
        x, y = tf.constant(x), tf.constant(y)
        model, adam = build(self.keras, network), self._adam()
        adam.build(model.trainable_variables)

        @tf.function(jit_compile=self.xla)
        def step(rows, total_loss, total_correct):
            xb, yb = tf.gather(x, rows), tf.gather(y, rows)
            with tf.GradientTape() as tape:
                logits = model(xb, training=True)
                loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(yb, logits))
            adam.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
            correct = tf.reduce_sum(tf.cast(tf.argmax(logits, 1) == yb, tf.int32))
            return total_loss + loss, total_correct + correct

        def epoch(rows):
            loss, correct = tf.constant(0.0), tf.constant(0)
            for i in tf.unstack(tf.constant(rows.astype("int32"))):
                loss, correct = step(i, loss, correct)
            int(correct)
            return float(loss) / len(rows)
        return epoch

    def fit(self, network, training, validation, batch, epochs):
        history = self._compiled(network).fit(*training, batch_size=batch, epochs=epochs,
                                              validation_data=validation, verbose=0).history
        return history["val_loss"][-1], history["val_accuracy"][-1]

    def predictor(self, network, batch):
        tf, model = self.tf, build(self.keras, network, softmax=True)
        if "predict_on_batch" in self.words:
            return model.predict_on_batch
        signature = [tf.TensorSpec((batch, *network.input_shape))]
        run = tf.function(lambda x: model(x, training=False), jit_compile=self.xla, input_signature=signature)
        run = run.get_concrete_function()
        return lambda x: run(tf.convert_to_tensor(x)).numpy()

    def convolution(self, case, x, kernel, dy):
        tf, raw, border = self.tf, self.tf.raw_ops, case.border
        shape, kernel_shape = x.shape, kernel.shape
        x, kernel, dy = tf.constant(x), tf.constant(kernel), tf.constant(dy)
        how = {"strides": [1, case.stride, case.stride, 1], "dilations": [1, case.dilation, case.dilation, 1],
               "padding": "EXPLICIT", "explicit_paddings": [0, 0, border, border, border, border, 0, 0]}
        return (lambda: raw.Conv2D(input=x, filter=kernel, **how),
                lambda: raw.Conv2DBackpropInput(input_sizes=shape, filter=kernel, out_backprop=dy, **how),
                lambda: raw.Conv2DBackpropFilter(input=x, filter_sizes=kernel_shape, out_backprop=dy, **how))

    def max_pool(self, x, dy):
        tf, raw = self.tf, self.tf.raw_ops
        x, dy = tf.constant(x), tf.constant(dy)
        how = {"ksize": [1, 2, 2, 1], "strides": [1, 2, 2, 1], "padding": "VALID"}
        y = raw.MaxPool(input=x, **how)
        return (lambda: raw.MaxPool(input=x, **how),
                lambda: raw.MaxPoolGrad(orig_input=x, orig_output=y, grad=dy, **how))

    def softmax_cross_entropy(self, logits, labels):
        tf = self.tf
        logits, labels = tf.constant(logits), tf.constant(labels)
        both = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits
        run = tf.function(lambda: both(features=logits, labels=labels))
        return lambda: run()[0].numpy().mean()
