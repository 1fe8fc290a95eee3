"""A float ONNX graph becomes one of int8: ONNX Runtime's own quantizer, with our ranges and our choice of operators.

Softmax and its bias, means and the sums that residual branches end in stay float, and so do the depthwise layers that
make what is added to: every block rounds once what it adds to, and all later blocks see the sum of those errors. So
does the layer that reads the image: its steps and those of integers hardly ever meet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, MutableSequence
from typing import TYPE_CHECKING, Final

from ..inspection import NEARLY_ALL
from . import inspection
from .host import UNSIGNED, Host
from .ranges import Ranges

if TYPE_CHECKING:
    import onnx

# The operators that become integer kernels; the others are float between DequantizeLinear and QuantizeLinear.
PRODUCTS: Final = ("Gemm", "MatMul")
ROUNDING: Final = ("QuantizeLinear", "DequantizeLinear")
COMPUTING: Final = ("Conv", *PRODUCTS, "Mul", "Sigmoid")
MOVING: Final = ("Relu", "Reshape", "Transpose", "Split", "Concat")
INTEGER: Final = (*COMPUTING, *MOVING)


def quantize(model: onnx.ModelProto, ranges: Ranges, host: Host, *, kept: Collection[str] = ()) -> onnx.ModelProto:
    """An int8 form, for `host`, of a model that `engine.fused` gave; weights have a scale a channel, biases are int32.

    Inputs and outputs stay float32, and so do the nodes named in `kept`, and those of `always_float`. `ranges` are
    those of all float tensors, by name.
    """
    import numpy as np
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    limits = {
        name: TensorData(lowest=np.array(low, np.float32), highest=np.array(high, np.float32))
        for name, (low, high) in ranges.items()
    }
    source = onnx.ModelProto()
    source.CopyFrom(model)
    kept = always_float(source).union(kept)
    quantizer = QDQQuantizer(
        source,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QUInt8 if host in UNSIGNED else QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, limits),
        nodes_to_quantize=[],
        nodes_to_exclude=sorted(kept),
        op_types_to_quantize=list(INTEGER),
        extra_options={"WeightSymmetric": True, "ActivationSymmetric": False},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized: onnx.ModelProto = quantizer.model.model
    _reconnect(quantized.graph, kept)
    for node in quantized.graph.node:
        if node.op_type in ROUNDING:
            # Nearly a thousand names, each nearly that of a tensor: 0.5 % of the float file.
            node.name = ""
    return quantized


def always_float(model: onnx.ModelProto) -> set[str]:
    """The names of the sums of two activations, of the depthwise layers that make what branches are added to, and of
    those that read the model's input, which integers of one scale would round once more.

    Not of the layers, if so much of the arithmetic is in them that the rest would not be int8 any more.
    """
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    sums = [node for node in graph.node if node.op_type == "Add" and constants.isdisjoint(node.input)]
    uses = Counter(name for node in graph.node for name in node.input)
    added = {name for node in sums for name in node.input if uses[name] > 1}
    makers = [node for node in graph.node if _groups(node) > 1 and node.output[0] in added]
    taken = {value.name for value in graph.input}
    first = [node for node in graph.node if node.op_type == "Conv" and node.input[0] in taken]
    layers = [layer for layer in inspection.of(model).layers if layer.weights]
    spare = (1 - NEARLY_ALL) * sum(layer.macs for layer in layers)
    kept = {node.name for node in sums}
    for group in (makers, first):
        weights = {node.input[1] for node in group}
        spent = sum(layer.macs for layer in layers if layer.name in weights)
        if spent < spare:
            kept |= {node.name for node in group}
            spare -= spent
    return kept


def _groups(node: onnx.NodeProto) -> int:
    found = (int(part.i) for part in node.attribute if part.name == "group")
    return next(found, 1) if node.op_type == "Conv" else 1


def _reconnect(graph: onnx.GraphProto, kept: Collection[str]) -> None:
    """Take out the rounding between operators that are float anyway.

    An integer product gives float as readily as integers, so what only float operators read of it is not rounded.
    """
    producers = {name: node for node in graph.node for name in node.output}
    outputs = {value.name for value in graph.output}
    for rounding, back in _pairs(graph, producers):
        rounded, result = rounding.input[0], back.output[0]
        maker = producers.get(rounded)
        behind = [node for node in graph.node if result in node.input]
        floating = [node for node in behind if _is_float(node, kept)]
        only = len(floating) == len(behind)
        if maker is None or not (_is_float(maker, kept) or (only and maker.op_type in PRODUCTS)):
            continue
        if only and result in outputs:
            _replace(maker.output, rounded, result)
        else:
            for node in floating:
                _replace(node.input, result, rounded)
        if only:
            graph.node.remove(rounding)
            graph.node.remove(back)


def _pairs(
    graph: onnx.GraphProto, producers: Mapping[str, onnx.NodeProto]
) -> list[tuple[onnx.NodeProto, onnx.NodeProto]]:
    """Every QuantizeLinear with the DequantizeLinear behind it."""
    behind = [(producers.get(node.input[0]), node) for node in graph.node if node.op_type == "DequantizeLinear"]
    return [(first, node) for first, node in behind if first is not None and first.op_type == "QuantizeLinear"]


def _is_float(node: onnx.NodeProto, kept: Collection[str]) -> bool:
    return node.name in kept or node.op_type not in (*INTEGER, *ROUNDING)


def _replace(names: MutableSequence[str], old: str, new: str) -> None:
    names[:] = [new if name == old else name for name in names]
