"""The command line's `convert`: a model in another format, and whether it still computes the same."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any

from tinyconv import formats
from tinyconv.cli_arguments import parse_positive
from tinyconv.formats.quantize import QUANTIZATIONS
from tinyconv.models import load_model
from tinyconv.shapes import DATA_FORMATS

if TYPE_CHECKING:
    import argparse

__all__ = ["add_options", "convert"]

_IN_HELP = "folder or address of a TensorFlow.js model, or a file of Keras (.keras, .h5) or ONNX (.onnx)"
_OUT_HELP = ("a folder, for TensorFlow.js; or a file .keras, .h5 or .onnx; or weights alone: .npz, .weights.h5 or "
             ".safetensors")
# Arguments of Sequential.save that are options of the same names.
_OPTIONS = ("dialect", "opset", "data_format", "quantization", "shard_bytes")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `convert` to its parser."""
    parser.add_argument("model", metavar="IN", help=_IN_HELP)
    parser.add_argument("output", metavar="OUT", help=f"{_OUT_HELP}; one that is there is replaced")
    options = parser.add_argument_group("options of the format", "the arguments of Sequential.save; a format that does "
                                        "not have one refuses it")
    options.add_argument("--dialect", metavar="NAME", help="who reads the model: keras2 or keras3, for an .h5 file; "
                         "tinyconv, for a folder with what TensorFlow.js lacks")
    options.add_argument("--opset", type=parse_positive, metavar="N", help="version of ONNX' operators (default: 13)")
    options.add_argument("--data-format", choices=DATA_FORMATS, help="how images enter and leave an ONNX file's model: "
                         "NHWC, channels_last, or NCHW, channels_first (default: channels_last)")
    options.add_argument("--quantization", choices=QUANTIZATIONS, help="how TensorFlow.js' weights are made smaller")
    options.add_argument("--shard-bytes", type=parse_positive, metavar="N", help="bytes of every file of TensorFlow.js "
                         "weights but the last (default: one file)")
    parser.add_argument("--check", action="store_true",
                        help="compare outputs for random inputs: IN's here, and OUT's in the other runtime where that "
                             "is installed; status 2 where they differ by more than 1e-4 of the largest output")


def convert(arguments: argparse.Namespace) -> None:
    """Reads a model and writes it in the format that the name of OUT says."""
    output, weights_alone = arguments.output, str(arguments.output).endswith(formats.WEIGHTS_SUFFIXES)
    options: dict[str, Any] = {name: getattr(arguments, name) for name in _OPTIONS}
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    if weights_alone and given:
        raise ValueError(f"Expected no {given[0]} for weights alone. Received: {output}")
    (formats.check_weights_path if weights_alone else formats.check_save_path)(output)  # before IN is read
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = load_model(arguments.model)
        if weights_alone:
            model.save_weights(output)
        else:
            model.save(output, **options)
    for text in dict.fromkeys(str(warning.message) for warning in caught if warning.category is UserWarning):
        print(f"tinyconv: warning: {text}", file=sys.stderr)
    print(f"Wrote {output}: {len(model.layers)} layers, {model.count_params():,} weights")
    if arguments.check:
        from tinyconv.cli_check import check

        check(model, output, arguments.quantization, arguments.data_format)
