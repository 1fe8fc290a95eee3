"""Rules for maps that become smaller or larger: pooling and resizing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from .graph import Tensor
from .lowering import NHWC, Lowering, Rule, Value
from .rules_convolutions import Pair, pair, sides_after, window
from .rules_norms import mean
from .rules_shapes import padded

# The lowest that is certainly finite, not infinity, which a quantizer could not put on its scale.
LOWEST: Final = -3.4e38
NEVER_NEGATIVE: Final = ("RELU", "RELU6", "LOGISTIC", "SOFTMAX", "ABS", "EXP")


def adaptive_average(low: Lowering, x: Value, sides: Pair) -> Value:
    """MEAN for one position, AVERAGE_POOL_2D for a divisor of the map's side."""
    wanted, found = pair(sides), x.shape[2:]
    if len(x.order) == 4 and wanted == (1, 1):
        return mean(low, x, [2, 3], True)
    if len(x.order) != 4 or any(have % want for have, want in zip(found, wanted, strict=True)):
        raise low.refusal(f"adaptive pooling of {tuple(found)} to {wanted}")
    kernel = [have // want for have, want in zip(found, wanted, strict=True)]
    return _pool(low, "AVERAGE_POOL_2D", x, kernel, kernel, 0)


def max_pool(
    low: Lowering, x: Value, kernel: Pair, stride: Pair = (), padding: Pair = 0, dilation: Pair = 1, ceil: bool = False
) -> Value:
    """MAX_POOL_2D."""
    if ceil or pair(dilation) != (1, 1):
        raise low.refusal("pooling with dilation or rounded up")
    # Below no number of the map zero is as good as the lowest, and XNNPACK pads with nothing else.
    fill = 0.0 if _is_never_negative(low, x.tensor) else LOWEST
    return _pool(low, "MAX_POOL_2D", x, kernel, stride or kernel, padding, fill=fill)


def _is_never_negative(low: Lowering, tensor: Tensor) -> bool:
    maker = next((op for op in reversed(low.graph.operators) if tensor in op.outputs), None)
    return maker is not None and maker.kind in NEVER_NEGATIVE


def average_pool(
    low: Lowering,
    x: Value,
    kernel: Pair,
    stride: Pair = (),
    padding: Pair = 0,
    ceil: bool = False,
    count_padding: bool = True,
    divisor: int | None = None,
) -> Value:
    """AVERAGE_POOL_2D; the padding counts, as zeros, or there is none."""
    if ceil or divisor or (pair(padding) != (0, 0) and not count_padding):
        raise low.refusal("average pooling that rounds up, or leaves the padding out")
    if len(x.order) != 4:
        raise low.refusal("pooling without a batch")
    tensor = padded(low, low.arranged(x, NHWC), [(0, 0), *((width, width) for width in pair(padding)), (0, 0)])
    return _pool(low, "AVERAGE_POOL_2D", Value(tensor, NHWC), kernel, stride or kernel, 0)


def _pool(low: Lowering, kind: str, x: Value, kernel: Pair, stride: Pair, padding: Pair, *, fill: float = 0.0) -> Value:
    if len(x.order) != 4:
        raise low.refusal("pooling without a batch")
    sizes, strides, around = pair(kernel), pair(stride), [(width, width) for width in pair(padding)]
    tensor, mode = window(low, low.arranged(x, NHWC), sizes, strides, (1, 1), around, fill=fill)
    shape = (x.shape[0], *sides_after(x.shape[2:], sizes, strides, (1, 1), around), x.shape[1])
    pooled = low.emit(
        kind,
        [tensor],
        shape,
        padding=mode,
        stride_h=strides[0],
        stride_w=strides[1],
        filter_height=sizes[0],
        filter_width=sizes[1],
    )
    return Value(pooled, NHWC)


def resize(kind: str) -> Rule:
    """A rule for resizing 4-D maps to `size`, or by `scales`."""

    def rule(low: Lowering, x: Value, size: Sequence[int] | None, *rest: Any) -> Value:
        bilinear = kind == "RESIZE_BILINEAR"
        corners = bilinear and bool(rest[0])
        sides = size or _scaled(low, x, rest[-1])
        options: dict[str, Any] = {"align_corners": corners, "half_pixel_centers": bilinear and not corners}
        inputs = [low.arranged(x, NHWC), low.ints(sides, "size")]
        return Value(low.emit(kind, inputs, (x.shape[0], *sides, x.shape[1]), **options), NHWC)

    return rule


def _scaled(low: Lowering, x: Value, scales: Any) -> list[int]:
    sides = [side * scale for side, scale in zip(x.shape[2:], scales or (), strict=False)]
    # PyTorch then steps by the scale that it was given, TFLite by that of the rounded sides.
    if len(sides) != 2 or any(side != int(side) for side in sides):
        raise low.refusal(f"a resize of {x.shape[2:]} by {scales}")
    return [int(side) for side in sides]


RULES: Final[dict[str, Rule]] = {
    "aten.adaptive_avg_pool2d.default": adaptive_average,
    "aten.max_pool2d.default": max_pool,
    "aten.avg_pool2d.default": average_pool,
    "aten.upsample_nearest2d.vec": resize("RESIZE_NEAREST_NEIGHBOR"),
    "aten.upsample_bilinear2d.vec": resize("RESIZE_BILINEAR"),
}
