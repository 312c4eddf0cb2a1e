"""ONNX files.  Needs onnx, the extra `[onnx]`.

========================== ==============================================================
`layers`                   every layer in operators, of `write`'s nodes
`file`                     what an untrusted file holds, checked
`fold`                     constants and shapes that exporters leave to be calculated
`read`                     the walk along the operators, each a line in the tables of
                           `weights`, `pointwise` and `moves`, which add
                           layers to a `chain`
`functions`                activations that are several operators, both ways; `branches`
                           collects them, `repeats` what repeats pixels
========================== ==============================================================

What is written: docs/formats.md has the table of layers and operators.  Beside them a file has
`class_names` and `image_input` as JSON, under "tinyconv" in metadata_props.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv.formats.metadata import OWN, write_metadata
from tinyconv.formats.onnx.file import import_onnx, read_graph
from tinyconv.formats.onnx.layers import write_layers
from tinyconv.formats.onnx.read import read_model
from tinyconv.formats.onnx.write import Writer
from tinyconv.formats.store import GENERATOR, put, write_file
from tinyconv.formats.writing import check_built
from tinyconv.shapes import DATA_FORMATS, standardize_data_format

__all__ = ["LEAST_OPSET", "import_onnx", "load", "save"]

# The first opset in which all that is written is there.
LEAST_OPSET = 13
# A protocol buffer holds less than 2 GiB.
_MAX_BYTES = (1 << 31) - (1 << 20)


def save(model: Any, path: Path, opset: int | None = None, data_format: str | None = None) -> None:
    """Writes `model` to a file; until it is whole, the one that is there stays.

    Args:
        model: A built `Sequential`.
        path: The file.
        opset: Version of the operators, 13 or later. Defaults to None: 13.
        data_format: How images and sequences enter and leave. Defaults to None: "channels_last".

    Raises:
        ValueError: If the model is not built, has a layer that ONNX has not, or an argument is out of range.
        ImportError: If onnx is not installed.
        OSError: If the file cannot be written.
    """
    onnx = import_onnx()
    check_built(model)
    newest = onnx.defs.onnx_opset_version()
    version = LEAST_OPSET if opset is None else opset
    if type(version) is not int or not LEAST_OPSET <= version <= newest:
        raise ValueError(f"Expected opset to be an integer from {LEAST_OPSET} to {newest}. Received: opset={opset!r}")
    is_first = standardize_data_format(data_format, DATA_FORMATS) == "channels_first"
    own = write_metadata(model)
    size = 4 * sum(weight.value.size for weight in model.weights)
    if size > _MAX_BYTES:
        raise ValueError(f"save expected a model of at most {_MAX_BYTES} bytes of weights. Received: {size} bytes")
    writer = Writer(model.input_shape[1:], version, is_first)
    write_layers(writer, model.layers)
    writer.finish()
    data = _serialize(onnx, model.name, writer, own)
    onnx.checker.check_model(data)
    write_file(path, lambda file: put(file, data))


def _serialize(onnx: Any, name: str, writer: Writer, own: dict[str, Any]) -> bytes:
    from tinyconv import __version__

    helper, to_tensor = onnx.helper, onnx.numpy_helper.from_array
    nodes = [helper.make_node(op, inputs, [output], name=node, **attributes)
             for op, inputs, output, node, attributes in writer.nodes]
    tensors = [to_tensor(np.asarray(array), key) for key, array in writer.constants.items()]
    ends = [helper.make_tensor_value_info(key, onnx.TensorProto.FLOAT, ["batch", *sizes])
            for key, sizes in (("input", writer.input_sizes), ("output", writer.output_sizes))]
    graph = helper.make_graph(nodes, name, ends[:1], ends[1:], tensors)
    opsets = [helper.make_opsetid("", writer.opset)]
    model = helper.make_model(graph, opset_imports=opsets, producer_name=GENERATOR, producer_version=__version__,
                              ir_version=helper.find_min_ir_version_for(opsets))
    if own:
        helper.set_model_props(model, {OWN: json.dumps({"version": 1, **own}, allow_nan=False)})
    return model.SerializeToString()


def load(path: Path) -> Any:
    """Reads the model of a file. See `formats.load_model`."""
    return read_model(read_graph(path), str(path))
