"""ONNX Runtime with the CPU execution provider; prediction only."""

from __future__ import annotations

LIBRARY = "onnxruntime"
ENVIRONMENT = "onnxrt"
INSTRUCTION_SETS = False
VARIANTS = {"W3": ("default",)}


class Engine:
    def __init__(self, variant, threads):
        self.threads = threads

    def predictor(self, network, batch):
        import onnxruntime

        from . import onnx_model

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        session = onnxruntime.InferenceSession(onnx_model.build(network, batch), options,
                                               providers=["CPUExecutionProvider"])
        convert = onnx_model.channels_first(network)
        return lambda x: session.run(None, {"x": convert(x)})[0]
