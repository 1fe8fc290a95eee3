"""TFLite files: written directly from a `torch.export` graph, or by onnx2tf; quantized, described, inspected."""
