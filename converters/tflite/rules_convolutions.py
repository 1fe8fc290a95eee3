"""Rules for convolutions, and where their windows lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from .graph import Tensor
from .lowering import NHWC, Lowering, Rule, Value
from .rules_pointwise import ADD
from .rules_shapes import padded, reshape

Pair = Sequence[int] | int


def pair(value: Pair) -> tuple[int, int]:
    """(height, width), which PyTorch may say as one number."""
    if isinstance(value, int):
        return value, value
    return (value[0], value[0]) if len(value) == 1 else (value[0], value[1])


def conv2d(
    low: Lowering,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Value:
    """CONV_2D or DEPTHWISE_CONV_2D, weights (out, in / groups, height, width) in the model."""
    if weight.data is None or len(x.order) != 4:
        raise low.refusal("a convolution that is not 2-D or whose weights are computed")
    strides, dilations = pair(stride), pair(dilation)
    kernel = weight.shape[2:]
    around = _padding(padding, kernel, dilations)
    tensor, mode = window(low, low.arranged(x, NHWC), kernel, strides, dilations, around)
    channels = weight.shape[0]
    options: dict[str, Any] = {
        "padding": mode,
        "stride_h": strides[0],
        "stride_w": strides[1],
        "dilation_h_factor": dilations[0],
        "dilation_w_factor": dilations[1],
    }
    kind, order = "CONV_2D", (0, 2, 3, 1)
    if groups == x.shape[1] and groups > 1:
        kind, order = "DEPTHWISE_CONV_2D", (1, 2, 3, 0)
        options["depth_multiplier"] = channels // groups
    inputs = [tensor, low.arranged(weight, order), constant_bias(low, bias, channels)]
    shape = (x.shape[0], *sides_after(x.shape[2:], kernel, strides, dilations, around), channels)
    y = Value(low.emit(kind, inputs, shape, **options), NHWC)
    computed = bias is not None and bias.data is None
    return ADD(low, y, reshape(low, bias, [channels, 1, 1])) if bias is not None and computed else y


def constant_bias(low: Lowering, bias: Value | None, channels: int) -> Tensor:
    """The bias of a layer; zeros if it has none, or one that is computed and has to be added afterwards."""
    import numpy as np

    if bias is not None and bias.data is not None:
        return bias.tensor
    # XNNPACK takes a layer without a bias, tflite-runtime's own kernels do not always.
    return low.constant(np.zeros(channels, np.float32), "bias")


def _padding(padding: Pair | str, kernel: Sequence[int], dilation: Sequence[int]) -> list[tuple[int, int]]:
    """(before, after) for height and width."""
    if padding == "valid":
        return [(0, 0), (0, 0)]
    if isinstance(padding, str):
        totals = [step * (size - 1) for size, step in zip(kernel, dilation, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(width, width) for width in pair(padding)]


def sides_after(
    sides: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    around: Sequence[tuple[int, int]],
) -> list[int]:
    """How many windows there are in each direction."""
    return [
        (side + sum(pad) - dilation * (size - 1) - 1) // stride + 1
        for side, size, stride, dilation, pad in zip(sides, kernel, strides, dilations, around, strict=True)
    ]


def window(
    low: Lowering,
    tensor: Tensor,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    around: Sequence[tuple[int, int]],
    *,
    fill: float = 0.0,
) -> tuple[Tensor, str]:
    """The tensor and the padding mode that put the windows of TFLite where PyTorch has them."""
    sides = tensor.shape[1:3]
    outs = sides_after(sides, kernel, strides, dilations, around)
    # What lies before and after, up to the end of the last window: PyTorch may pad more than it reads.
    needed = [
        (pad[0], max(0, (out - 1) * stride + dilation * (size - 1) + 1 - side - pad[0]))
        for side, out, size, stride, dilation, pad in zip(sides, outs, kernel, strides, dilations, around, strict=True)
    ]
    total = [
        max(0, (-(-side // stride) - 1) * stride + dilation * (size - 1) + 1 - side)
        for side, size, stride, dilation in zip(sides, kernel, strides, dilations, strict=True)
    ]
    same = [(width // 2, width - width // 2) for width in total]
    if needed == same and outs == [-(-side // stride) for side, stride in zip(sides, strides, strict=True)]:
        return tensor, "SAME"
    return padded(low, tensor, [(0, 0), *needed, (0, 0)], fill), "VALID"


RULES: Final[dict[str, Rule]] = {
    "aten.conv2d.default": conv2d,
    "aten.conv2d.padding": conv2d,
}
