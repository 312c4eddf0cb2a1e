"""OpenVINO's CPU plugin in float32; prediction only."""

from __future__ import annotations

LIBRARY = "openvino"
ENVIRONMENT = "openvino"
INSTRUCTION_SETS = False
VARIANTS = {"W3": ("latency-f32",)}


class Engine:
    def __init__(self, variant, threads):
        self.threads = threads

    def predictor(self, network, batch):
        import openvino

        from . import onnx_model

        core = openvino.Core()
        model = core.compile_model(core.read_model(onnx_model.build(network, batch), b""), "CPU", {
            "INFERENCE_NUM_THREADS": self.threads, "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32"})
        request, output = model.create_infer_request(), model.output(0)
        convert = onnx_model.channels_first(network)
        return lambda x: request.infer({0: convert(x)}, share_inputs=True, share_outputs=True)[output]
