"""ONNX Runtime's CPU provider for models in memory, on one thread and silent: for looking, not for measuring."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import onnx

ERRORS_ONLY: Final = 3


def session(content: bytes, *, literal: bool = False) -> Any:
    """An `onnxruntime.InferenceSession`; a `literal` one computes operator by operator what the file says."""
    import onnxruntime

    options = _options()
    if literal:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def fused(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model after the fusions that are right on any machine, with the types and shapes of all tensors."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="evit-edge-") as scratch:
        options = _options()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(scratch, "fused.onnx"))
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        written = onnx.load(options.optimized_model_filepath)
    # ONNX Runtime lists every domain that it knows.
    used = {node.domain for node in written.graph.node} | {""}
    for opset in [opset for opset in written.opset_import if opset.domain not in used]:
        written.opset_import.remove(opset)
    return onnx.shape_inference.infer_shapes(written)


def _options() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    return options
