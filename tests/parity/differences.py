"""Where tinyconv differs from Keras on purpose, each with its reason.

A pattern stands for the arguments (`module.Class.argument`) or the names that it matches.
"""

from __future__ import annotations

__all__ = ["DIFFERENCES", "NOT_COMPARED"]

# Arguments that are missing, have another default or another place.
DIFFERENCES: dict[str, str] = {
    "*.deserialize.custom_objects": "a file never names code here: classes come from closed tables",
    "activations.deserialize.config": "the argument is called as in `get`",
    "losses.deserialize.name": "the argument is called as in the other modules",
    "initializers.*.input_axes": "new in Keras 3.15, for kernels of attention; which axes are inputs is fixed",
    "initializers.*.output_axes": "as input_axes",
    "layers.Av*Pool*.pool_size": "2 where nothing is given, as for MaxPooling2D",
    "layers.*Conv*2D*.strides": "1 stands for (1, 1): sequences and images share their signature",
    "layers.*Conv*2D*.dilation_rate": "as strides",
    "layers.MaxPool*2D.pool_size": "2 stands for (2, 2)",
    "layers.Dense.lora_alpha": "no low-rank adaptation: networks are small",
    "layers.Dense.quantization_config": "weights are float32",
    "losses.*.name": "None stands for Keras' name",
    "metrics.*.name": "None stands for Keras' name",
    "metrics.*.from_sorted_ids": "new in Keras 3.15, for predictions that are ids already",
    "optimizers.Optimizer.learning_rate": "0.01 where nothing is given",
    "callbacks.CallbackList.add_*": "fit adds its history and its progress bar itself",
}

# Names without a case in a table.
NOT_COMPARED: dict[str, str] = {
    "*.get": "asked for with every case of its module",
    "*.serialize": "asked for with every case of its module",
    "*.deserialize": "asked for with every case of its module",
    "layers.Layer": "the base of all",
    "layers.Input*": "every model of these tests begins with one",
    "losses.Loss": "the base of all",
    "metrics.Metric": "the base of all",
    "metrics.MeanMetricWrapper": "takes a function of the user",
    "initializers.Initializer": "the base of all",
    "optimizers.Optimizer": "the base of all",
    "regularizers.Regularizer": "the base of all",
    "constraints.Constraint": "the base of all",
    "optimizers.schedules.LearningRateSchedule": "the base of all",
    "callbacks.Callback": "the base of all",
    "callbacks.CallbackList": "how fit calls them; tests/test_callbacks.py",
    "callbacks.BackupAndRestore": "writes files of its own form; tests/test_callbacks*.py",
    "callbacks.CSVLogger": "writes a file; tests/test_callbacks*.py",
    "callbacks.History": "tests/test_training.py",
    "callbacks.LambdaCallback": "takes functions of the user",
    "callbacks.LearningRateScheduler": "takes a function of the user",
    "callbacks.ProgbarLogger": "prints, in a form of its own",
    "callbacks.TensorBoard": "writes files; tests/test_callbacks*.py",
    "callbacks.TerminateOnNaN": "tests/test_callbacks*.py",
}
