"""LiteRT (TensorFlow Lite) with the XNNPACK delegate in float32; prediction only.

The .tflite files are made once, by TensorFlow in its own environment (`python
litert.py FOLDER` with that interpreter), and kept in PEERS_HOME/models."""

from __future__ import annotations

import os
import sys

LIBRARY = "ai_edge_litert.interpreter"
ENVIRONMENT = "litert"
INSTRUCTION_SETS = False
VARIANTS = {"W3": ("xnnpack",)}


def file_name(network, batch):
    return f"{network.name.replace(' ', '-')}-{batch}.tflite"


class Engine:
    def __init__(self, variant, threads):
        self.threads = threads

    def predictor(self, network, batch):
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(self._model_file(network, batch), num_threads=self.threads)
        input_index = interpreter.get_input_details()[0]["index"]
        interpreter.resize_tensor_input(input_index, (batch, *network.input_shape))
        interpreter.allocate_tensors()
        output_index = interpreter.get_output_details()[0]["index"]

        def predict(x):
            interpreter.set_tensor(input_index, x)
            interpreter.invoke()
            return interpreter.get_tensor(output_index)
        return predict

    def _model_file(self, network, batch):
        import subprocess

        home = os.environ["PEERS_HOME"]
        path = os.path.join(home, "models", file_name(network, batch))
        if not os.path.exists(path):
            python = os.path.join(home, "tf", "bin", "python")
            if not os.path.exists(python):
                raise SystemExit("LiteRT needs TensorFlow once, to convert the models: install tensorflow")
            command = [python, os.path.abspath(__file__), os.path.dirname(path)]
            subprocess.run(command, check=True, stdout=sys.stderr)
        return path


def convert(folder):
    """Writes every model of W3, for every batch, with a name that only a finished file gets."""
    import tempfile

    import keras
    import tensorflow as tf
    from peers import workloads as wl
    from peers.adapters.tensorflow import build

    os.makedirs(folder, exist_ok=True)
    for network in wl.PREDICTION:
        for batch in wl.PREDICTION_BATCHES:
            with tempfile.TemporaryDirectory(dir=folder) as temporary:
                build(keras, network, batch, softmax=True).export(temporary, verbose=False)
                model = tf.lite.TFLiteConverter.from_saved_model(temporary).convert()
                part = os.path.join(temporary, "model.tflite")
                with open(part, "wb") as file:
                    file.write(model)
                os.replace(part, os.path.join(folder, file_name(network, batch)))


if __name__ == "__main__":
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    convert(sys.argv[1])
