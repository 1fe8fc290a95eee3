"""ONNX files: inspected, and quantized for the CPU that will run them."""
