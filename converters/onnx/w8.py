"""A float ONNX graph with int8 weights: DequantizeLinear in front of each layer's, and all arithmetic in float32."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from ...models.errors import ParityFailed

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

# The layers whose weights become int8, and which of their inputs can be weights.
LAYERS: Final = {"Conv": (1,), "Gemm": (0, 1), "MatMul": (0, 1)}
# The small tensors are the sensitive ones: two trained EfficientViT-M0s lose 6 and 10 dB by them, 2 % of the weights.
SMALLEST: Final = 2048
INT8_MAX: Final = 127
# Of a tensor's weights, as a relative L2: three times and more what was measured in trained models.
LIMIT: Final = 0.03
REPORT: Final = "this is a fault of the converter: take another precision, and report it"


def compress(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with the layers' weights in int8, symmetric, with a float32 scale an output channel.

    Tensors below `SMALLEST` elements stay float32, and so do those that more is read of than one kind of channels.
    """
    import onnx

    small = onnx.ModelProto()
    small.CopyFrom(model)
    graph, axes = small.graph, _axes(model.graph)
    nodes = []
    for tensor in [tensor for tensor in graph.initializer if tensor.name in axes]:
        axis, scale_name = axes[tensor.name], f"{tensor.name}_scale"
        integers, scale = rounded(onnx.numpy_helper.to_array(tensor), axis)
        tensor.CopyFrom(onnx.numpy_helper.from_array(integers, tensor.name))
        graph.initializer.append(onnx.numpy_helper.from_array(scale, scale_name))
        named = [tensor.name, scale_name], [_as_float(tensor.name)]
        nodes.append(onnx.helper.make_node("DequantizeLinear", *named, axis=axis))
    for node in graph.node:
        node.input[:] = [_as_float(name) if name in axes else name for name in node.input]
    nodes.extend(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    return small


def rounded(weights: NDArray[Any], axis: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """int8 of the same shape, the largest magnitude of each slice along `axis` at 127; and float32 (channels,)."""
    import numpy as np

    others = tuple(place for place in range(weights.ndim) if place != axis)
    # A channel of zeros needs a scale too.
    scale = np.maximum(np.abs(weights).max(axis=others) / INT8_MAX, np.finfo(np.float32).tiny).astype(np.float32)
    spread = [-1 if place == axis else 1 for place in range(weights.ndim)]
    return np.round(weights / scale.reshape(spread)).clip(-INT8_MAX, INT8_MAX).astype(np.int8), scale


def prove(floating: onnx.ModelProto, written: onnx.ModelProto) -> None:
    """Compare each layer's weights, as `written` dequantizes them, with the float ones; raises `ParityFailed`."""
    import numpy as np

    after = {place: weights for place, _, weights in _weights(written.graph)}
    for place, name, want in _weights(floating.graph):
        got = after.get(place)
        if got is None or got.shape != want.shape:
            raise ParityFailed(f"the layer of {name} lost its weights in the compressed file", REPORT)
        lost = float(np.linalg.norm(got - want) / np.linalg.norm(want)) if want.any() else float(np.linalg.norm(got))
        # Also where it is NaN.
        if not lost <= LIMIT:
            raise ParityFailed(
                f"the w8 weights of {name} are off by a relative L2 of {lost:.2e}, more than {LIMIT:g}", REPORT
            )


def _axes(graph: onnx.GraphProto) -> dict[str, int]:
    """Where the weights that become int8 have their output channels, by name."""
    import onnx

    large = {
        tensor.name: len(tensor.dims)
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and math.prod(tensor.dims) >= SMALLEST
    }
    found: dict[str, list[int]] = {name: [] for name in large}
    for node in graph.node:
        for place in LAYERS.get(node.op_type, ()):
            if node.input[place] in large:
                found[node.input[place]].append(_channel_axis(node, place, large[node.input[place]]))
    reads = Counter(name for node in graph.node for name in node.input)
    return {name: axes[0] for name, axes in found.items() if len(set(axes)) == 1 and len(axes) == reads[name]}


def _channel_axis(node: onnx.NodeProto, place: int, rank: int) -> int:
    if node.op_type == "Conv":
        return 0
    turned = any(part.name == ("transA", "transB")[place] and part.i for part in node.attribute)
    # What is multiplied from the left gives the rows of the result, from the right its columns.
    return rank - 1 if turned != bool(place) else rank - 2


def _weights(graph: onnx.GraphProto) -> Iterator[tuple[tuple[str, int], str, NDArray[Any]]]:
    """The constant weights of the layers as they are used, by the layer's result and its input, with their names."""
    import onnx

    constants = {tensor.name: tensor for tensor in graph.initializer}
    dequantized = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    for node in graph.node:
        for place in LAYERS.get(node.op_type, ()):
            source = dequantized.get(node.input[place])
            name = source.input[0] if source else node.input[place]
            if name in constants:
                array = onnx.numpy_helper.to_array(constants[name])
                yield (node.output[0], place), name, _dequantized(array, source, constants) if source else array


def _dequantized(integers: NDArray[Any], node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> NDArray[Any]:
    import onnx

    axis = next(part.i for part in node.attribute if part.name == "axis")
    scale = onnx.numpy_helper.to_array(constants[node.input[1]])
    spread = [-1 if place == axis else 1 for place in range(integers.ndim)]
    result: NDArray[Any] = integers * scale.reshape(spread)
    return result


def _as_float(name: str) -> str:
    return f"{name}_float"
