"""From the operators of an ONNX file to a model: a walk along the only chain that there is."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from tinyconv import layers
from tinyconv.formats.assemble import build_model, guarded, weight_shapes
from tinyconv.formats.guard import MAX_LAYERS, FormatError, checked_dict, fail, parse_json
from tinyconv.formats.keras2 import BAD_SETTINGS, shorten_message
from tinyconv.formats.metadata import OWN, read_metadata
from tinyconv.formats.onnx.branches import Branches
from tinyconv.formats.onnx.chain import Chain, Weight
from tinyconv.formats.onnx.file import Graph, Node, Tensor
from tinyconv.formats.onnx.fold import Folder, Sizes, axes_of, number
from tinyconv.formats.onnx.moves import MOVES, pool_with_pads
from tinyconv.formats.onnx.pointwise import POINTWISE
from tinyconv.formats.onnx.repeats import Repeats
from tinyconv.formats.onnx.weights import WITH_WEIGHTS
from tinyconv.formats.store import GENERATOR

__all__ = ["read_model"]

# Layers may share constants, but not so many that a small file makes a large model.
_SHARED, _FREE_VALUES = 4, 1 << 20
_MAX_NAME = 200
_SHAPES = ("Shape", "Size")
_OPERATORS = {**WITH_WEIGHTS, **POINTWISE, **MOVES}


def read_model(graph: Graph, what: str) -> Any:
    """The model of a graph.

    Raises:
        FormatError: If the graph is no chain of operators that there are layers for.
    """
    with np.errstate(all="ignore"):  # numbers of the file that are infinite, or too large for float32
        reader = _Reader(graph, what)
        reader.walk()
        return _build(reader.chain, graph, what)


class _Reader:
    """Follows the value from the input to the output; constants and shapes are calculated on the way."""

    def __init__(self, graph: Graph, what: str) -> None:
        self.graph, self.what = graph, what
        self.chain = Chain(graph.sizes)
        self._known: dict[str, Tensor | Sizes] = dict(graph.constants)
        self._folder = Folder(sum(tensor.size for tensor in graph.constants.values()))
        self._head = graph.input
        self._sizes = {graph.input: graph.sizes}
        self._nodes = _live(graph)
        self._left: dict[str, int] = {graph.output: 1}  # how many are still to take a tensor
        for node in self._nodes:
            for name in set(node.inputs) if node.op not in _SHAPES else ():
                self._left[name] = self._left.get(name, 0) + 1
        self._takers = {name: node for node in self._nodes if node.op not in _SHAPES for name in node.inputs}
        self._branches: Branches | None = None
        self._repeats: Repeats | None = None
        self._is_own = graph.producer == GENERATOR

    def walk(self) -> None:
        for node in self._nodes:
            try:
                self._step(node)
            except FormatError:
                raise
            except ValueError as error:
                raise FormatError(f"{self.what}: {node}: {shorten_message(error)}") from None
            except BAD_SETTINGS:
                fail(f"{self.what}: {node}", "inputs and attributes as ONNX defines them",
                     f"{len(node.inputs)} inputs, {sorted(node.attributes)}")
        if self._branches is not None or self._repeats is not None or self._head != self.graph.output:
            self._refuse_branches()
        guarded(self.what, self._finish)

    def _finish(self) -> None:
        self.chain.flush()
        self.chain.in_order()
        if not self.chain.entries:
            self.chain.add(layers.Activation, {"activation": "linear"})

    def _value(self, name: str) -> Any:
        """A constant or a shape; None where nothing is given; the name itself for what follows from the input."""
        if not name:
            return None
        if name in self._known:
            return self._known[name]
        if name == self._head or (self._branches is not None and name in self._branches.live):
            return name
        raise ValueError(f"expected tensors that operators before it gave. Received: {name[:60]!r}")

    def _step(self, node: Node) -> None:
        if not node.outputs:
            raise ValueError("expected an output")
        if node.op in _SHAPES and node.inputs[0] in self._sizes:
            self._known[node.outputs[0]] = _shape(node, self._sizes[node.inputs[0]])
            return
        values = [self._value(name) for name in node.inputs]
        data = [value for value in values if isinstance(value, str)]
        if not data:
            self._known[node.outputs[0]] = self._fold(node, values)
        elif self._repeats is not None or self._begins_to_repeat(node):
            self._repeat(node, values)
        elif self._branches is not None or self._left[data[0]] > 1 or len(data) > 1:
            self._branch(node, values)
        elif node.op not in _OPERATORS or values[0] != data[0] and node.op not in ("Add", "Mul", "Sum", "Div", "Sub"):
            self._refuse(node)
        elif node.op == "Pad" and self._is_before_pool(node):
            pool = self._takers[node.outputs[0]]
            self._nodes[self._nodes.index(pool)] = pool_with_pads(self.chain, node, values, self.graph.opset, pool)
            self._advance(node.outputs[0])
        else:
            count = len(self.chain.entries)
            _OPERATORS[node.op](self.chain, node, values, self.graph.opset)
            self._name(node, count)
            self._advance(node.outputs[0])

    def _fold(self, node: Node, values: list[Any]) -> Tensor | Sizes:
        if node.op != "Constant" and not values:
            self._refuse(node)
        return self._folder.fold(node, values)

    def _refuse(self, node: Node) -> None:
        fail(self.what, "a chain of operators that tinyconv has layers for", f"{node}")

    def _refuse_branches(self) -> None:
        """Names the operator in which the branches meet: the one that there is no layer for."""
        behind, meeting = {self._head}, ""
        for node in self._nodes:
            count = sum(name in behind for name in node.inputs) if node.op not in _SHAPES else 0
            if count > 1:
                meeting = f" that meet in {node}"
                break
            if count:
                behind.update(node.outputs)
        fail(self.what, "operators one behind the other, from the input to the output",
             f"branches behind {self._head}{meeting}")

    def _advance(self, name: str) -> None:
        self._head = name
        self._sizes[name] = self.chain.sizes

    def _is_before_pool(self, node: Node) -> bool:
        """Whether a Pad that does not pad with zeros is for a MaxPool alone."""
        following, name = self._takers.get(node.outputs[0]), node.outputs[0]
        value = number(self._value(node.inputs[2])) if len(node.inputs) > 2 else 0.0
        is_other = node.attributes.get("mode", "constant") != "constant" or value not in (None, 0.0)
        return is_other and following is not None and following.op == "MaxPool" and self._left.get(name) == 1

    def _begins_to_repeat(self, node: Node) -> bool:
        """Whether an operator makes another axis, along which the next one repeats values."""
        following = self._takers.get(node.outputs[0])
        return (node.op == "Unsqueeze" and self._branches is None and following is not None
                and following.op in ("Expand", "Tile") and len(self._sizes[self._head]) > 1)

    def _repeat(self, node: Node, values: list[Any]) -> None:
        if self._repeats is None:
            self._repeats = Repeats(self.chain, axes_of(node, values))
        elif self._repeats.step(node, values):
            self._repeats = None
        self._advance(node.outputs[0])
        if self._repeats is not None:
            self._sizes[self._head] = self._repeats.sizes

    def _branch(self, node: Node, values: list[Any]) -> None:
        """Takes an operator on a value that others take too into account."""
        if self._branches is None:
            self._branches = Branches(self._head, self.chain.order)
        branches, output = self._branches, node.outputs[0]
        if not branches.takes(node):
            self._refuse_branches()
        order = branches.add(node, values)
        for name in {value for value in values if isinstance(value, str)}:
            self._left[name] -= 1
            if not self._left[name]:
                del branches.live[name]
        self._sizes[output] = tuple(self.chain.shape[axis] for axis in order)
        found = branches.identify() if list(branches.live) == [output] else None
        if found is None:
            return
        self._branches = None
        if isinstance(found, str) and found.endswith("prelu") and branches.slopes is not None:
            tensor, self.chain.order = branches.slopes
            self.chain.prelu(tensor, -1 if found[0] == "-" else 1)
        else:
            self.chain.activation(found)
        self.chain.order = order
        self._advance(output)

    def _name(self, node: Node, count: int) -> None:
        """Gives the layer of an own file's node its name back."""
        name = node.name.partition("/")[0]
        if self._is_own and _is_name(name) and len(self.chain.entries) > count:
            names = {entry.config.get("name") for entry in self.chain.entries}
            new = self.chain.entries[count:]
            if name not in names:
                next((entry for entry in new if entry.weights), new[-1]).config["name"] = name


def _is_name(name: str) -> bool:
    return 0 < len(name) <= _MAX_NAME and name.isprintable()


def _shape(node: Node, sizes: tuple[int, ...]) -> Sizes:
    found = (None, *sizes)
    if node.op == "Size":
        return Sizes((None,), False)
    start, end = node.attributes.get("start", 0), node.attributes.get("end")
    return Sizes(found[start:end])


def _live(graph: Graph) -> list[Node]:
    """The operators that the output follows from, each behind those that feed it, as not every writer has them."""
    maker = {name: index for index, node in enumerate(graph.nodes) for name in node.outputs if name}
    order: dict[int, None] = {}  # in the order of their end
    begun: set[int] = set()
    stack = [maker[graph.output]] if graph.output in maker else []
    while stack:
        index = stack[-1]
        rest = [maker[name] for name in graph.nodes[index].inputs if name in maker and maker[name] not in begun]
        if index not in begun:
            begun.add(index)
            stack.extend(reversed(rest))
        else:
            order[stack.pop()] = None
    return [graph.nodes[index] for index in order]


def _build(chain: Chain, graph: Graph, what: str) -> Any:
    """The model of the layers that were found, its weights those of the file."""
    if len(chain.entries) > MAX_LAYERS:
        fail(what, f"at most {MAX_LAYERS} layers", len(chain.entries))
    configs = [entry.config for entry in chain.entries]
    configs[0] = {**configs[0], "batch_input_shape": (None, *chain.input_shape)}
    created = [guarded(what, functools.partial(entry.cls, **config))
               for entry, config in zip(chain.entries, configs, strict=True)]
    shapes = [shape for sizes in weight_shapes(created) for shape in sizes.values()]
    weights = [weight for entry in chain.entries for weight in entry.weights]
    if [weight.shape for weight in weights] != shapes:
        fail(what, f"weights of the shapes {shapes[:8]}", [weight.shape for weight in weights][:8])
    held = sum(tensor.size for tensor in graph.constants.values())
    if sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes) > _SHARED * held + _FREE_VALUES:
        fail(what, f"weights that are in the file, {held} values", "more")
    model = build_model(created, graph.name if graph.producer == GENERATOR and _is_name(graph.name) else None)
    for target, weight in zip(model.weights, weights, strict=True):
        _fill(target, weight, what)
    for layer in model.layers:
        layer._changed()
    if OWN in graph.metadata:
        own = checked_dict(parse_json(graph.metadata[OWN].encode(), f"{what}: {OWN}"), f"{what}: {OWN}")
        read_metadata(model, own, what)
    return model


def _fill(target: Any, weight: Weight, what: str) -> None:
    values = weight.load()
    if values.shape != target.shape:
        fail(f"{what}: {target.name}", f"shape {target.shape}", values.shape)
    target.value[...] = values
