"""Finding the row of layers in a model's description, in any dialect of Keras and TensorFlow.js.

Models within models are taken apart: what is read is one row of layers.  Classes are looked up in the
closed table of `tinyconv.layers`, so that the first layer which is not there is the one that is named.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tinyconv.formats import keras1
from tinyconv.formats.guard import (
    MAX_LAYERS,
    FormatError,
    checked_dict,
    checked_list,
    checked_string,
    fail,
    shorten,
    unique,
)
from tinyconv.formats.keras2 import find_class
from tinyconv.utils import to_snake_case

__all__ = ["Place", "number_groups", "read_topology"]

# Models, which may stand among the layers of another.
_MODELS = {"Functional", "Model", "Sequential"}
# The packages that Keras' own classes come from.
_MODULES = {"keras", "keras_core", "tensorflow", "tf_keras"}


class Place(NamedTuple):
    """Where a layer stood in its file, which its weights are found by.

    Attributes:
        models: Name and group (see `number_groups`) of each model that it lay in, from the outermost.
        name: Its name there.
    """

    models: tuple[tuple[str, str], ...]
    name: str


def number_groups(class_names: list[str]) -> list[str]:
    """What Keras 3 calls the groups of layers' weights: "conv2d", "conv2d_1", ... whatever their names are."""
    counts: dict[str, int] = {}
    names = []
    for class_name in class_names:
        name = to_snake_case(class_name)
        counts[name] = count = counts.get(name, -1) + 1
        names.append(f"{name}_{count}" if count else name)
    return names


def read_topology(topology: Any) -> tuple[str | None, list[dict[str, Any]], dict[str, Any] | None]:
    """Finds a model's layers in a topology of any dialect.

    Args:
        topology: The description.

    Returns:
        The model's name or None, the layers' {"class_name", "config", "place"} in order, the first of
        them with its batch_input_shape, and the training configuration of Keras' files or None.

    Raises:
        FormatError: If it is not a chain of layers, or a layer is not one of this package.
    """
    topology = checked_dict(topology, "modelTopology")
    if "node" in topology:
        raise FormatError("modelTopology: expected layers. Received: a graph model (TensorFlow operations)")
    training = topology.get("training_config")
    if topology.get("model_config") is not None:
        topology = checked_dict(topology["model_config"], "model_config")
    class_name, config = topology.get("class_name"), topology.get("config")
    if not _is_model(topology):
        fail("modelTopology class_name", "Sequential or a chain of class Model", class_name)
    config = _settings_of(class_name, config)
    _check_count(config)
    entries = _with_input_shape(_in_one_row(_layers_of(class_name, config, ())), config)
    keras1.add_orders(entries)
    name = config.get("name")
    return (name if isinstance(name, str) and name else None, entries,
            training if isinstance(training, dict) else None)


def _is_model(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("class_name"), str) and value["class_name"] in _MODELS


def _settings_of(class_name: str, config: Any) -> dict[str, Any]:
    if class_name == "Sequential" and isinstance(config, list):
        config = {"layers": config}
    return checked_dict(config, f"{class_name} config")


def _check_count(config: dict[str, Any]) -> None:
    """Raises FormatError where a model has too many layers, those of the models in it counted."""
    count, rest = 0, [config]
    while rest:
        inner = rest.pop().get("layers")
        values = [value for value in inner if isinstance(value, dict)] if isinstance(inner, list) else []
        count += len(values) - any(value.get("class_name") == "InputLayer" for value in values[:1])
        if count > MAX_LAYERS:
            fail("layers", f"at most {MAX_LAYERS}", "more")
        for value in values:
            settings = value.get("config")
            if _is_model(value) and isinstance(settings, (dict, list)):
                rest.append(settings if isinstance(settings, dict) else {"layers": settings})


def _layers_of(class_name: str, config: dict[str, Any], within: tuple[tuple[str, str], ...]) -> list[dict[str, Any]]:
    """The layers of a model in order, those of the models in it among them.

    Args:
        class_name: The model's class.
        config: Its settings.
        within: The models that it lies in, see `Place`; nesting is as deep as JSON may be.
    """
    values = [checked_dict(value, f"layer {index}")
              for index, value in enumerate(checked_list(config.get("layers"), f"{class_name} layers"))]
    # Every layer is looked up first: an Add is refused as a layer, not for having two inputs.
    groups = number_groups([checked_string(value.get("class_name"), f"layer {index} class_name")
                            for index, value in enumerate(values)])
    parts = [_part(value, index, within, groups[index]) for index, value in enumerate(values)]
    order = range(len(parts)) if class_name == "Sequential" else _chain(config, values)
    return [entry for index in order for entry in parts[index]]


def _part(value: dict[str, Any], index: int, within: tuple[tuple[str, str], ...], group: str) -> list[dict[str, Any]]:
    """What stands in one place of a model: a layer, or the layers of a model."""
    class_name = value["class_name"]
    if not _is_model(value):
        entry = _entry(class_name, value, index)
        return [{**entry, "place": Place(within, str(entry["config"].get("name")))}]
    config = _settings_of(class_name, value.get("config"))
    entries = _layers_of(class_name, config, (*within, (str(config.get("name", class_name)), group)))
    if config.get("trainable") is False:
        for entry in entries:
            entry["config"]["trainable"] = False
    return entries


def _entry(class_name: str, value: dict[str, Any], index: int) -> dict[str, Any]:
    config = checked_dict(value.get("config"), f"layer {index} ({class_name}) config")
    what = f"layer {index} ({shorten(config.get('name'), 40)})"
    if class_name == "Lambda":
        fail(what, "a layer of Keras (a Lambda holds Python code, which is never run from a file)", class_name)
    module, registered = value.get("module"), value.get("registered_name")
    # A user's class is none of Keras' own, even where it has the name of one.
    is_own = registered in (None, class_name) or str(registered).startswith("keras>")
    if not is_own or not (module is None or str(module).split(".")[0] in _MODULES):
        fail(what, "a layer of Keras", f"the custom object {registered or module}")
    class_name, config = keras1.modernize(class_name, config)
    find_class(class_name, what)
    return {"class_name": class_name, "config": dict(config)}


def _chain(config: dict[str, Any], values: list[dict[str, Any]]) -> list[int]:
    """The order of a functional model's layers, in which each feeds the next and nothing else."""
    names = unique([checked_string(value.get("name"), "layer name") for value in values], "layer names")
    models = {name for name, value in zip(names, values) if _is_model(value)}
    following: dict[str, int] = {}
    first = None
    for index, value in enumerate(values):
        nodes = checked_list(value.get("inbound_nodes", []), f"layer {index} inbound_nodes")
        if value["class_name"] == "InputLayer" and not nodes and first is None:
            first = index
            continue
        source = _source(nodes, models)
        if source is None or source in following:
            fail(f"layer {index} ({shorten(names[index], 40)})", "a plain chain, in which every layer has one input of "
                 "its own and is called with nothing else", f"{value['class_name']} with "
                 + (_describe_inputs(nodes) if source is None else f"the input of '{names[following[source]]}'"))
        following[source] = index
    order = [] if first is None else [first]
    while order and names[order[-1]] in following and len(order) < len(values):
        order.append(following[names[order[-1]]])
    if not values or len(order) != len(values):
        fail("layers", f"one chain of {len(values)} layers", f"a chain of {len(order)}")
    outputs = config.get("output_layers")
    while isinstance(outputs, list) and len(outputs) == 1:
        outputs = outputs[0]
    if outputs and (not isinstance(outputs, list) or outputs[0] != names[order[-1]]):
        fail("output_layers", f"the last layer of the chain, {shorten(names[order[-1]], 40)}, alone", outputs)
    return order


def _source(nodes: list[Any], models: set[str]) -> str | None:
    """The name of the only layer that feeds this one, or None where it is not as simple."""
    match nodes:
        case [[[str() as source, int() as node, 0, *arguments]]] | [[str() as source, int() as node, 0, *arguments]]:
            pass
        case [{"args": [{"config": {"keras_history": [str() as source, int() as node, 0]}}], **others}]:  # Keras 3
            arguments = [others.get("kwargs")]
        case _:
            return None
    # A model is called once when it is created, as node 0, and then where it is used.
    return source if node in ((0, 1) if source in models else (0,)) and all(map(_is_plain_call, arguments)) else None


def _is_plain_call(kwargs: Any) -> bool:
    """Whether a layer is called with nothing but its input; that it is not in training goes without saying."""
    return not kwargs or (isinstance(kwargs, dict) and not any(kwargs.values()))


def _describe_inputs(nodes: list[Any]) -> str:
    if not nodes:
        return "no input"
    if len(nodes) > 1:
        return f"{len(nodes)} calls"
    if isinstance(nodes[0], list) and len(nodes[0]) > 1 and all(isinstance(source, list) for source in nodes[0]):
        return f"{len(nodes[0])} inputs"
    return f"the input {shorten(nodes[0], 60)}"


def _in_one_row(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Layers of models within models, whose inputs go and whose names are lengthened where others have them."""
    taken = {entry["place"].name for entry in entries if not entry["place"].models}
    row: list[dict[str, Any]] = []
    begun = False
    for entry in entries:
        within, config = entry["place"].models, entry["config"]
        is_input = entry["class_name"] == "InputLayer"
        if within and is_input and begun:
            continue
        begun = begun or not is_input
        name = config.get("name")
        if within and not is_input and name is not None:
            longer, number = str(name), 0
            while longer in taken:  # also by a layer of another model that has the same name
                longer = f"{within[-1][0][:40]}_{name}" + (f"_{number}" if number else "")
                number += 1
            if number:
                config["name"] = longer
            taken.add(longer)
        row.append(entry)
    return row


def _with_input_shape(entries: list[dict[str, Any]], config: dict[str, Any]) -> list[dict[str, Any]]:
    """Moves the input's shape to the first layer, wherever the dialect has it."""
    shape = None
    while entries and entries[0]["class_name"] == "InputLayer":
        first = entries.pop(0)["config"]
        shape = shape or first.get("batch_input_shape") or first.get("batch_shape")
    if not entries:
        fail("layers", "at least one layer", "none")
    inputs = [entry["config"].pop("batch_input_shape", None) for entry in entries]
    shape = shape or inputs[0] or config.get("build_input_shape")
    if not isinstance(shape, list) or len(shape) < 2:
        fail("batch_input_shape", "[null, ...] for the first layer", shape)
    entries[0]["config"]["batch_input_shape"] = shape
    return entries
