"""Models: `Sequential`, a stack of layers that learns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from os import PathLike
from typing import TYPE_CHECKING, Any

from tinyconv import layers as layers_module
from tinyconv.layers import Layer
from tinyconv.left_out import explain, explain_attributes, refuse_methods
from tinyconv.shapes import check_integer, describe
from tinyconv.summary import summary
from tinyconv.training import Trainer
from tinyconv.utils import warn

if TYPE_CHECKING:
    from tinyconv.image_input import ImageInput

__all__ = ["Sequential", "clone_model", "load_model", "model_from_json", "save_model"]


class Sequential(Trainer):
    """A stack of layers, each with one input and one output.

    Where the first layer declares its `input_shape`, or an `Input` comes first, the
    model is built as layers are added; otherwise by the first data that it gets.

    Args:
        layers: List of layers to add; a model among them adds its own.
        name: Name. Defaults to `"sequential"`, numbered.
        seed: What initial weights, shuffling and dropout follow from, an integer >= 0.
            Defaults to the next one of `utils.set_random_seed`, or a fresh one.
        trainable: Whether training changes any weight. Defaults to `True`.

    Raises:
        TypeError: If something is not a layer.
        ValueError: If layers do not fit each other, or names are not unique.

    Attributes:
        optimizer: What `compile` made of its argument; its `learning_rate` may be set at any time.
        stop_training: Callbacks set it to end `fit` after the batch.
        history: What the last `fit` returned.
        class_names: Names of the classes, a list of strings, or None; saved with the model.
        image_input: An `ImageInput`, how pictures become inputs, or None; saved with the model.
    """

    class_names: list[str] | None = None
    image_input: ImageInput | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_methods(cls, "call", "train_step", "test_step", "predict_step", "compute_loss")

    def __init__(self, layers: Iterable[Layer | Sequential] | None = None, name: str | None = None,
                 seed: int | None = None, trainable: bool = True) -> None:
        super().__init__(layers, name, seed, trainable)

    def summary(self, line_length: int | None = None, positions: Any = None,
                print_fn: Callable[[str], Any] | None = None, expand_nested: bool = False,
                show_trainable: bool = False, layer_range: Any = None) -> None:
        """Prints the layers: output shapes, numbers of parameters, and what a sample costs.

        "Multiply-Adds" are those of a sample's forward pass in convolutions and dense layers; zeros of
        `"same"` padding count. "Bytes" are those of the parameters and of a sample's output, in float32.
        What is not known before the model is built is shown as "?".

        Args:
            line_length: Characters a line. Defaults to what the texts need.
            positions: Where the columns end, as shares of the line or as characters. Defaults to
                what the texts need.
            print_fn: Called with every line. Defaults to `print`.
            expand_nested: Accepted for scripts that pass it: models do not nest here.
            show_trainable: Whether to show which layers training changes (Y or N). Defaults to `False`.
            layer_range: Names of the first and the last layer to show. Defaults to all.

        Raises:
            ValueError: If positions or a name does not fit.
        """
        for line in summary(self, line_length, positions, show_trainable, layer_range):
            (print if print_fn is None else print_fn)(line)

    @property
    def input(self) -> layers_module.Spec:
        """Shape and type of the input."""
        return self.inputs[0]

    @property
    def output(self) -> layers_module.Spec:
        """Shape and type of the output."""
        return self.outputs[0]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The shape of the output for inputs of a shape, both with the batch in front; nothing is built.

        Raises:
            ValueError: If a layer does not take it.
        """
        batch, *sample = input_shape
        shape = tuple(check_integer(size, "input_shape") for size in sample)
        for layer in self._layers:
            shape = layer.compute_output_shape(shape)
        return batch, *shape

    def get_config(self) -> dict[str, Any]:
        """Name and layers as JSON can hold them; no weights and no training configuration."""
        return {
            "name": self.name,
            "trainable": self.trainable,
            "layers": [layers_module.serialize(layer) for layer in self._layers],
            "build_input_shape": [None, *self._input_shape] if self._input_shape else None,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Sequential:
        """A new model from what `get_config`, Keras or TensorFlow.js wrote.

        Raises:
            ValueError: If there is no such layer, or a setting is not its own.
        """
        if not isinstance(config, dict) or not isinstance(config.get("layers"), (list, tuple)):
            received = " ".join(str(config).split())[:80]
            raise ValueError(  # noqa: TRY004 (it is what the file holds that is wrong)
                f"Expected config to be a dict with a list of layers. Received: {received}"
            )
        model = cls(name=config.get("name"), trainable=config.get("trainable") is not False)
        for entry in config["layers"]:
            model.add(layers_module.deserialize(entry))
        shape = config.get("build_input_shape")
        if shape is not None and not model.layers:
            model.add(layers_module.Input(batch_shape=shape))
        elif shape is not None and not model.built:
            model.build(shape)
        return model

    def to_json(self, **kwargs: Any) -> str:
        """The layers of the built model as Keras' JSON, for `models.model_from_json` here or in Keras.

        Args:
            **kwargs: For `json.dumps`, such as indent=2.
        """
        from tinyconv.formats import description

        self._check_built()
        return description.to_json(self, **kwargs)

    def save(self, filepath: str | PathLike[str], overwrite: bool = True, dialect: str | None = None,
             opset: int | None = None, data_format: str | None = None, quantization: str | None = None,
             shard_bytes: int | None = None) -> None:
        """Saves layers, weights, training configuration and optimizer; to ONNX what prediction needs.

        Args:
            filepath: A file that ends in `.keras` or `.h5`, for Keras (needs the extra `[keras]`), or in
                `.onnx` (needs the extra `[onnx]`); or a folder, for TensorFlow.js, created where it is missing.
            overwrite: Whether a model that is there may be replaced. Defaults to `True`.
            dialect: Who is to read a `.h5` file, `"keras3"` or `"keras2"`; for a folder `"tinyconv"`: it may
                then hold what TensorFlow.js lacks. Defaults to `None`: `"keras3"`, and TensorFlow.js.
            opset: Version of the operators in an ONNX file, 13 or later. Defaults to `None`: 13.
            data_format: How images enter and leave an ONNX file's model: `"channels_last"` or
                `"channels_first"`. Defaults to `None`: `"channels_last"`, as here.
            quantization: How TensorFlow.js' weights are made smaller: `"uint8"`, `"uint16"` or `"float16"`;
                the optimizer's state is then left out. Defaults to `None`: they are kept bit for bit.
            shard_bytes: Bytes of every file of TensorFlow.js' weights but the last. Defaults to `None`: one file.

        Raises:
            ValueError: If the model has a layer that the format has not.
            FileExistsError: If a model is there and may not be replaced.
            ImportError: If h5py or onnx is not installed, for Keras' and ONNX' files.
        """
        from tinyconv import formats

        if not overwrite and _holds_model(filepath):
            raise FileExistsError("A model is there already; pass overwrite=True. "
                                  f"Received: filepath={str(filepath)!r}")
        formats.save_model(self, filepath, dialect=dialect, opset=opset, data_format=data_format,
                           quantization=quantization, shard_bytes=shard_bytes)

    def save_weights(self, filepath: str | PathLike[str], overwrite: bool = True) -> None:
        """Saves the weights alone.

        Args:
            filepath: A file that ends in `.npz`, for a NumPy archive with an array "layer/weight" for
                each; in `.weights.h5`, for Keras 3 (needs the extra `[keras]`); or in `.safetensors`, for
                PyTorch (needs the extra `[safetensors]`, see `formats.torch_modules`).
            overwrite: Whether a file that is there may be replaced. Defaults to `True`.

        Raises:
            ValueError: If the model is not built, or the path ends otherwise.
            FileExistsError: If a file is there and may not be replaced.
        """
        from tinyconv import formats

        self._check_built()
        if not overwrite and formats.check_weights_path(filepath).exists():
            raise FileExistsError("A file is there already; pass overwrite=True. "
                                  f"Received: filepath={str(filepath)!r}")
        formats.save_weights(self, filepath)

    def load_weights(self, filepath: str | PathLike[str], skip_mismatch: bool = False, by_name: bool = False) -> None:
        """Overwrites the weights with those that `save_weights` saved from a model of the same layers.

        Args:
            filepath: A file that ends in `.npz`; `.weights.h5`, `.h5` or `.keras` of any Keras, or
                `.safetensors` of a torch.nn.Sequential, whose layers with weights are those of this
                model, in this order; in Keras' files also within models in the model.
            skip_mismatch: Whether a layer keeps its weights, and a warning says so, where those of the
                file have other shapes or another number. Defaults to `False`: that is an error.
            by_name: Whether layers go by their names, in `.h5` and `.hdf5` files; a layer that the file
                has not keeps its weights. Defaults to `False`: by their order.

        Raises:
            ValueError: If the model is not built, or the file does not fit it; nothing is changed then.
            FileNotFoundError: If there is no such file.
        """
        from tinyconv import formats

        self._check_built()
        for line in formats.load_weights(self, filepath, skip_mismatch, by_name):
            warn(line)

    def export(self, filepath: str | PathLike[str], format: str = "tf_saved_model", verbose: bool | None = None,
               input_signature: None = None, *, opset_version: int | None = None) -> None:
        """Writes what prediction needs for another runtime: an ONNX file (needs the extra `[onnx]`).

        Args:
            filepath: The file; one that is there is replaced.
            format: `"onnx"`. Keras has others, and defaults to `"tf_saved_model"`; they are refused.
            verbose: Whether to print where it was written. Defaults to `None`: it is not.
            input_signature: `None`: the model's input shape, of any number of samples.
            opset_version: Version of the operators, 13 or later. Defaults to `None`: 13.

        Raises:
            ValueError: If the model is not built, has a layer that ONNX has not, or an argument is another.
            ImportError: If onnx is not installed.
        """
        from tinyconv import formats

        if format != "onnx":
            raise ValueError(f"export expected format to be 'onnx'. Received: format={describe(format)}")
        if input_signature is not None:
            raise ValueError("export expected input_signature to be None, it is the model's input shape. "
                             f"Received: {describe(input_signature)}")
        self._check_built()
        formats.export_onnx(self, filepath, opset_version)
        if verbose:
            print(f"Saved artifact at '{filepath}'.")

    def _check_save_path(self, filepath: str | PathLike[str], weights_only: bool = False) -> None:
        """For callbacks that will save: better refused before the training than after an epoch."""
        from tinyconv import formats

        if weights_only:
            formats.check_weights_path(filepath)
        else:
            formats.check_save_path(filepath, self if self.built else None)

    def _restore(self, filepath: str | PathLike[str]) -> None:
        """Takes over weights, optimizer and state of training from a saved model of the same layers."""
        self._check_built()
        saved = load_model(filepath)
        if saved.optimizer is None or type(saved.optimizer) is not type(self.optimizer):
            raise ValueError("Expected a saved model with the optimizer of this one. "
                             f"Received: {saved.optimizer!r} in {str(filepath)!r}")
        self.set_weights(saved.get_weights())
        self.set_training_state(saved.get_training_state())
        self._build_optimizer()
        self.optimizer.set_weights(saved.optimizer.get_weights())
        if not self.optimizer.scheduled:
            self.optimizer.learning_rate = saved.optimizer.learning_rate

    @classmethod
    def load(cls, filepath: str | PathLike[str]) -> Sequential:
        """The model that `save` wrote; see `load_model`."""
        return load_model(filepath)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"

    if not TYPE_CHECKING:
        __getattr__ = explain_attributes("Sequential")


def _holds_model(filepath: str | PathLike[str]) -> bool:
    from pathlib import Path

    from tinyconv import formats

    path = Path(filepath)
    return path.exists() if formats.is_model_file(path) else (path / "model.json").exists()


def load_model(filepath: str | PathLike[str], custom_objects: None = None, compile: bool = True,
               safe_mode: bool = True) -> Sequential:
    """Reads a model of Keras, TensorFlow.js or ONNX.

    Args:
        filepath: A `.keras` or `.h5` file; an `.onnx` file whose operators are a chain; or the folder with
            `model.json`, or the path of that file, or its address on a server: "https://...".
        custom_objects: None: classes always come from a closed list.
        compile: Whether to compile the model as the files say. Defaults to `True`.
        safe_mode: Of no effect: a file never names code.

    Returns:
        The model; compiled, and ready to go on training, where the files say how.

    Raises:
        ValueError: If a file is missing, damaged or not such a model, or there are custom_objects.
        OSError: If a server does not send a file.
        ImportError: If h5py or onnx is not installed, for Keras' and ONNX' files.
    """
    from tinyconv import formats

    if custom_objects:
        raise ValueError(f"Expected custom_objects to be None. Received: {sorted(custom_objects)}")
    model = formats.load_model(filepath)
    if not compile:
        model._forget_training()
    return model


def save_model(model: Sequential, filepath: str | PathLike[str], overwrite: bool = True, **kwargs: Any) -> None:
    """Another way to call `Sequential.save`."""
    model.save(filepath, overwrite, **kwargs)


def model_from_json(json_string: str) -> Sequential:
    """A new model of the layers that `Sequential.to_json`, Keras 1 to 3 or TensorFlow.js wrote.

    Raises:
        ValueError: If the text does not describe a chain of layers that tinyconv has.
    """
    from tinyconv.formats import description

    return description.from_json(json_string)


def clone_model(model: Sequential, input_tensors: None = None,
                clone_function: Callable[[Layer], Layer] | None = None) -> Sequential:
    """A new model of the same layers and compile settings; its weights and its optimizer begin afresh.

    Args:
        model: A `Sequential`.
        input_tensors: None: a model's input has no tensor.
        clone_function: Makes a new layer of each. Defaults to None: from the layer's config.

    Raises:
        TypeError: If it is no model.
        ValueError: If a layer that `clone_function` made does not fit, or input_tensors is not None.
    """
    if not isinstance(model, Sequential):
        raise TypeError(f"Expected model to be a Sequential. Received: model={model!r}")
    if input_tensors is not None:
        raise ValueError(f"Expected input_tensors to be None. Received: {type(input_tensors).__name__}")
    clone = Sequential(name=model.name, trainable=model.trainable)
    if model._shape_declared:
        clone.add(layers_module.Input(model.input_shape[1:]))
    for layer in model.layers:
        clone.add(type(layer).from_config(layer.get_config()) if clone_function is None else clone_function(layer))
    if model.built and not clone.built:
        clone.build(model.input_shape)
    clone.class_names, clone.image_input = model.class_names, model.image_input
    if model.compiled:
        clone._compile_like(model)
    return clone


if not TYPE_CHECKING:
    __getattr__ = explain(__name__)
