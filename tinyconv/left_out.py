"""Names that scripts for Keras ask for and that are not here, with what takes their place.

docs/keras.md says why.  A module's missing name is an AttributeError, as `hasattr` wants it, but an ImportError
for `from tinyconv.layers import Lambda`, which would keep the message of the former to itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from fnmatch import fnmatchcase
from opcode import opmap
from typing import Any

__all__ = ["KERAS_1_ARGUMENTS", "explain", "explain_attributes", "refuse_methods"]

# Arguments of layers in Keras 1 -> since.
KERAS_1_ARGUMENTS = {
    "W_constraint": "kernel_constraint", "W_regularizer": "kernel_regularizer", "atrous_rate": "dilation_rate",
    "b_constraint": "bias_constraint", "b_regularizer": "bias_regularizer", "beta_init": "beta_initializer",
    "bias": "use_bias", "border_mode": "padding", "depthwise_init": "depthwise_initializer",
    "dim_ordering": "data_format", "filter_length": "kernel_size", "gamma_init": "gamma_initializer",
    "init": "kernel_initializer", "length": "size", "nb_filter": "filters", "output_dim": "units", "p": "rate",
    "pointwise_init": "pointwise_initializer", "pool_length": "pool_size", "sigma": "stddev", "stride": "strides",
    "subsample": "strides", "subsample_length": "strides",
}

_ROW = "layers stand in one row here, which has nothing to merge"
_OTHERS = "it belongs to other networks than those of images in a row; layers.Conv1D takes sequences"
_BATCHES = "change the batches in a generator of your own, or see layers.RandomFlip and its kin"
_LAYER = "a training step runs no Python; compose the layers that are there, or change x before fit"
_PART = "Sequential(model.layers[:n]) computes what the first n layers of a model put out"
_ARRAYS = "backends have no tensors here; use NumPy, tinyconv.ops or tinyconv.activations"
_FILES = "only MNIST is downloaded; datasets.read reads data sets that are files, and fit takes any arrays"

# Modules of tinyconv -> patterns of names -> what to do instead.
_INSTEAD: dict[str, dict[str, str]] = {
    "": {
        "Model": _PART, "Layer": "layers.Layer is the base of those that are there", "applications": _OTHERS,
        "wrappers": "tinyconv.sklearn.Classifier is the model for scikit-learn", "mixed_precision": "float32 is all",
        "random": "utils.set_random_seed seeds a model, NumPy makes numbers",
    },
    "layers": {
        "Lambda": _LAYER, "Wrapper": _LAYER, "InputSpec": _LAYER,
        "*3D*": _OTHERS, "*LSTM*": _OTHERS, "*GRU*": _OTHERS, "*RNN*": _OTHERS, "Bidirectional": _OTHERS,
        "TimeDistributed": _OTHERS, "*Attention": _OTHERS, "Embedding": _OTHERS, "Masking": _OTHERS,
        **dict.fromkeys(("Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply", "Subtract", "add",
                         "average", "concatenate", "dot", "maximum", "minimum", "multiply", "subtract", "merge",
                         "Merge"), _ROW),
        "*Normalization": "layers.BatchNormalization is there, layers.Normalization with fixed statistics",
        "Adaptive*": "where the size divides the image's, an ordinary pooling is the same",
        "ActivityRegularization": "kernel_regularizer and bias_regularizer are there",
        "Identity": 'layers.Activation("linear") is one',
        "RandomCrop": "layers.RandomTranslation with layers.CenterCrop is close to it",
        **dict.fromkeys(("Random*", "AugMix", "AutoContrast", "CutMix", "MixUp", "Equalization", "RandAugment",
                         "Solarization"), _BATCHES),
        "ThresholdedReLU": "layers.ReLU(threshold=theta) is one",
        "Deconvolution2D": "layers.Conv2DTranspose is its name",
    },
    "models": {"Model": _PART, "Functional": _PART, "model_from_yaml": "models.model_from_json reads a text"},
    "utils": {
        **dict.fromkeys(("plot_model", "model_to_dot", "plot", "visualize_util", "print_summary"),
                        "model.summary() shows the row of layers"),
        "np_utils": "to_categorical and normalize are in utils itself",
        "get_file": "urllib.request.urlretrieve downloads a file",
        "multi_gpu_model": "set_num_threads says how many threads compute",
        "HDF5Matrix": "fit takes h5py's data sets through a utils.PyDataset of your own, or arrays",
    },
    "datasets": {
        "fashion_mnist": "datasets.read reads its IDX files; only MNIST is downloaded",
        "cifar10": _FILES, "cifar100": _FILES,
    },
    "preprocessing.image": {
        "ImageDataGenerator": "layers.Rescaling, RandomFlip, RandomRotation, RandomTranslation, RandomZoom and "
                              "RandomBrightness augment in the model, and utils.image_dataset_from_directory reads "
                              "folders",
    },
    "backend": {
        **dict.fromkeys(("image_dim_ordering", "set_image_dim_ordering"), "Keras 1's; image_data_format is its name"),
        "function": _PART, "learning_phase": "model(x, training=True) says it", "set_learning_phase":
        "model(x, training=True) says it", **dict.fromkeys(("get_value", "set_value"),
        "an optimizer's learning_rate is a number, and is set as an attribute"),
        **dict.fromkeys(("get_session", "set_session"), "nothing has a session"),
        **dict.fromkeys(("abs", "argmax", "cast", "clip", "concatenate", "constant", "dot", "equal", "eval", "exp",
                         "expand_dims", "flatten", "gradients", "log", "max", "maximum", "mean", "minimum", "ones",
                         "permute_dimensions", "placeholder", "pow", "prod", "relu", "reshape", "round", "shape",
                         "sigmoid", "softmax", "sqrt", "square", "squeeze", "stack", "std", "sum", "switch", "tanh",
                         "transpose", "variable", "var", "zeros"), _ARRAYS),
    },
}


# Classes -> names of attributes that objects had in Keras 1 and 2 -> what to do instead.
_INSTEAD_OF_ATTRIBUTES: dict[str, dict[str, str]] = {
    "Sequential": {
        "fit_generator": "fit takes generators", "evaluate_generator": "evaluate takes generators",
        "predict_generator": "predict takes generators", "predict_proba": "predict gives probabilities",
        "predict_classes": "predict(x).argmax(axis=-1) gives classes, predict(x) > 0.5 those of a sigmoid",
        "to_yaml": "to_json writes a text",
    },
    "Optimizer": {"lr": "its name is learning_rate"},
}


def refuse_methods(cls: type, *names: str) -> None:
    """For the making of a subclass: a method of these would never be called.

    Raises:
        TypeError: If the class defines one of them.
    """
    for name in names:
        if name in vars(cls):
            raise TypeError(f"Expected a subclass of {cls.__mro__[1].__name__} without a method `{name}`, which "
                            f"nothing calls here: {_LAYER} (docs/keras.md). Received: {cls.__name__}")


def explain(module: str) -> Callable[[str], Any]:
    """The `__getattr__` of a module: an error that says what takes the place of a name of the table.

    Args:
        module: The module's `__name__`.
    """
    table = _INSTEAD[module.partition(".")[2]]

    def raise_for(name: str) -> Any:
        for pattern, instead in table.items():
            if fnmatchcase(name, pattern):
                message = f"{module} has no {name!r}: {instead} (docs/keras.md)."
                if _is_imported():
                    raise ImportError(message, name=module)
                raise AttributeError(message, name=name)
        raise AttributeError(f"module {module!r} has no attribute {name!r}", name=name)

    return raise_for


def _is_imported() -> bool:
    """Whether it is an import statement that asks a module's `__getattr__` for a name."""
    frame = sys._getframe(2)
    while frame.f_code.co_name == "__getattr__" and frame.f_back:
        frame = frame.f_back
    return frame.f_code.co_code[frame.f_lasti] == opmap["IMPORT_FROM"]


def explain_attributes(cls: str) -> Callable[[Any, str], Any]:
    """The `__getattr__` of a class: an AttributeError that says what takes the place of a name of the table.

    Args:
        cls: The class's name.
    """
    table = _INSTEAD_OF_ATTRIBUTES[cls]

    def raise_for(self: Any, name: str) -> Any:
        if hasattr(type(self), name):  # a property that raised AttributeError says more
            return object.__getattribute__(self, name)
        instead = f": {table[name]}" if name in table else ""
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{instead}", name=name, obj=self)

    return raise_for
