"""The torch.nn.Sequential of a model's layers: its modules, and the names of its tensors.

Nothing here needs PyTorch.
"""

from __future__ import annotations

from typing import Any

# Each says for some layers what their modules are.
from tinyconv.formats.torch import plain, weights  # noqa: F401
from tinyconv.formats.torch.activations import Unmapped
from tinyconv.formats.torch.chain import Chain, Module, add_modules
from tinyconv.formats.writing import check_built

__all__ = ["data_format_of", "modules_of", "torch_modules", "torch_names"]


def torch_modules(model: Any) -> list[tuple[str, dict[str, Any]]]:
    """The modules of the torch.nn.Sequential that computes what a model predicts.

    The names are those of classes of torch.nn, but for `Rescaling(scale, offset)`, which is
    x * scale + offset.  Inputs and outputs have the channels first: (N, C, H, W), (N, C, steps).
    The numbers of the modules are those in the names of the tensors that
    `save_weights("name.safetensors")` writes.

    Args:
        model: A built `Sequential`.

    Returns:
        For every module the name of its class and its keyword arguments.

    Raises:
        ValueError: If torch.nn has no modules for a layer.
    """
    return [(module.name, module.arguments) for module in modules_of(model)]


def torch_names(model: Any) -> dict[str, str]:
    """Where a model's weights are in PyTorch's state dict: {"0.weight": "conv2d/kernel", ...}.

    Args:
        model: A built `Sequential`.

    Raises:
        ValueError: If torch.nn has no modules for a layer.
    """
    return {f"{number}.{name}": f"{tensor.owner}/{tensor.weight.name}"
            for number, module in enumerate(modules_of(model))
            for name, tensor in module.tensors.items() if tensor.weight is not None}


def data_format_of(model: Any) -> str:
    """Where the samples of a model have their channels: PyTorch has them first."""
    return Chain(model).data_format


def modules_of(model: Any) -> list[Module]:
    """The modules with their tensors; see `torch_modules`.

    Raises:
        Unmapped: If torch.nn lacks a layer, or the order of the outputs.
    """
    check_built(model, "torch_modules")
    chain = Chain(model)
    for number, layer in enumerate(model.layers):
        chain.number = number
        try:
            add_modules(layer, chain)
        except Unmapped as error:
            received = f"'{layer.name}', {type(layer).__name__} {error}".rstrip()
            raise Unmapped(f"Expected layers that torch.nn has. Received: {received}") from None
    if not chain.is_standard(model.layers[-1].output_shape):
        raise Unmapped("Expected a model whose outputs have an order that torch.nn can give them. "
                       f"Received: '{model.name}', which ends with '{model.layers[-1].name}'")
    return chain.modules
