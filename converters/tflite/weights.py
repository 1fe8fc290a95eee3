"""Weights in fewer bits: float16, or int8 with one scale a channel, turned into floats when the file is opened."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final, Literal

from .graph import Graph, Operator, Scales, Tensor
from .simplify import WEIGHTED

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Smaller constants stay as they are: together they are few bytes, and biases carry much of the accuracy.
SMALLEST: Final = 256
INT8_MAX: Final = 127
# Products of two scales must not vanish in float32.
TINIEST: Final = 1e-15


def compress(graph: Graph, kind: Literal["fp16", "w8"], *, kept: Collection[str] = ()) -> Graph:
    """Replace the layers' weights by small ones with a DEQUANTIZE behind them, in place; `fp16` their biases too.

    Not in the layers whose output is named in `kept`.
    """
    known: dict[Tensor, Operator] = {}
    for operator in graph.operators:
        if operator.outputs[0].name in kept:
            continue
        for place, tensor in _stored(operator, kind):
            if tensor not in known:
                small = int8_weight(tensor, channel_axis(operator)) if kind == "w8" else _half(tensor)
                known[tensor] = Operator(
                    kind="DEQUANTIZE",
                    inputs=[small],
                    outputs=[Tensor(name=f"{tensor.name}/float", shape=tensor.shape)],
                    source=operator.source,
                )
            operator.inputs[place] = known[tensor].output
    graph.operators = [*known.values(), *graph.operators]
    return graph


def _stored(operator: Operator, kind: str) -> list[tuple[int, Tensor]]:
    """Which inputs of an operator become small: only a layer's, since any other would be expanded at every run.

    XNNPACK of LiteRT 2.1 leaves a layer alone whose weights are float16 and whose bias is not.
    """
    if operator.kind not in WEIGHTED:
        return []
    places = (1, 2) if kind == "fp16" else (1,)
    tensors = [(place, operator.inputs[place]) for place in places]
    return [
        (place, tensor)
        for place, tensor in tensors
        if tensor is not None
        and tensor.data is not None
        and tensor.dtype == "float32"
        and (kind == "fp16" or tensor.data.size >= SMALLEST)
    ]


def channel_axis(operator: Operator) -> int:
    """Where a layer's weights have their output channels."""
    return 3 if operator.kind == "DEPTHWISE_CONV_2D" else 0


def _half(tensor: Tensor) -> Tensor:
    import numpy as np

    assert tensor.data is not None
    largest = np.finfo(np.float16).max
    data = tensor.data.clip(-largest, largest).astype(np.float16)
    return Tensor(name=tensor.name, shape=tensor.shape, dtype="float16", data=data)


def int8_weight(tensor: Tensor, axis: int, *, least: NDArray[Any] | float = 0.0) -> Tensor:
    """The constant in int8, symmetric, the largest magnitude of each slice along `axis` at 127.

    No scale is below `least`.
    """
    import numpy as np

    assert tensor.data is not None
    scale = _as_float32(np.maximum(weight_scale(tensor.data, axis), least))
    spread = [-1 if place == axis else 1 for place in range(tensor.data.ndim)]
    data = np.round(tensor.data / scale.reshape(spread)).clip(-INT8_MAX, INT8_MAX).astype(np.int8)
    scales = Scales(scale=scale.astype(np.float32), zero_point=np.zeros(len(scale), np.int64), axis=axis)
    return Tensor(name=tensor.name, shape=tensor.shape, dtype="int8", data=data, scales=scales)


def weight_scale(data: NDArray[Any], axis: int) -> NDArray[Any]:
    """float64 (channels,); a channel of zeros has the scale of the largest one, since its bias is rounded by it too."""
    import numpy as np

    others = tuple(place for place in range(data.ndim) if place != axis)
    largest = np.abs(data.astype(np.float64)).max(axis=others)
    usual = largest.max(initial=0.0) or INT8_MAX
    return _as_float32(np.maximum(np.where(largest > 0, largest, usual) / INT8_MAX, TINIEST))


def _as_float32(scale: NDArray[Any]) -> NDArray[Any]:
    """As the file will have it: numbers rounded by another scale would be off."""
    import numpy as np

    rounded: NDArray[Any] = scale.astype(np.float32).astype(np.float64)
    return rounded
