"""The networks as ONNX models, for the peers that read them; needs the package onnx."""

from __future__ import annotations

from typing import Any

from .. import workloads as wl


def build(network: wl.Network, batch: int) -> bytes:
    """The serialized model: NCHW images "x" in, probabilities out."""
    from onnx import TensorProto, helper, numpy_helper

    height, width, channels = network.input_shape
    weights = enumerate(wl.channels_first_weights(network))
    nodes: list[Any] = []
    initializers: list[Any] = []
    current = "x"

    def add(operation, inputs, **attributes):
        output = f"t{len(nodes)}"
        nodes.append(helper.make_node(operation, inputs, [output], **attributes))
        return output

    def parameters():
        names = []
        for _ in range(2):
            number, array = next(weights)
            names.append(f"w{number}")
            initializers.append(numpy_helper.from_array(array, names[-1]))
        return names

    for layer in network.layers:
        match layer:
            case wl.Conv():
                border = layer.size // 2 if layer.padding == "same" else 0
                shape, pads = [layer.size] * 2, [border] * 4
                current = add("Conv", [current, *parameters()], kernel_shape=shape, pads=pads)
                current = add("Relu", [current])
            case wl.Pool():
                current = add("MaxPool", [current], kernel_shape=[2, 2], strides=[2, 2])
            case wl.Flatten():
                current = add("Flatten", [current])
            case wl.Dense():
                current = add("Gemm", [current, *parameters()], transB=1)
                current = add("Relu", [current]) if layer.relu else current
    current = add("Softmax", [current], axis=1)
    images = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, channels, height, width])
    output = helper.make_tensor_value_info(current, TensorProto.FLOAT, [batch, network.classes])
    graph = helper.make_graph(nodes, network.name, [images], [output], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model.SerializeToString()


def channels_first(network: wl.Network):
    """The function from an NHWC batch to NCHW; with one channel a reshape."""
    height, width, channels = network.input_shape
    if channels == 1:
        return lambda x: x.reshape(-1, 1, height, width)
    return lambda x: x.transpose(0, 3, 1, 2).copy()
