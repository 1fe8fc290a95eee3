"""ONNX files, inspected."""
