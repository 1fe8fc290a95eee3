"""Rules for layers: convolutions, matrix products, pooling, normalisation, softmax, resizing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from .graph import Tensor
from .lowering import NHWC, Lowering, Rule, Value, identity
from .rules_pointwise import ADD, MULTIPLY, RSQRT, SUBTRACT
from .rules_shapes import padded, reshape, transpose

Pair = Sequence[int] | int


def _pair(value: Pair) -> tuple[int, int]:
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
    strides, dilations = _pair(stride), _pair(dilation)
    kernel = weight.shape[2:]
    around = _padding(padding, kernel, dilations)
    tensor, mode = _window(low, low.arranged(x, NHWC), kernel, strides, dilations, around)
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
    inputs = [tensor, low.arranged(weight, order), _bias(low, bias, channels)]
    shape = (x.shape[0], *_sides(x.shape[2:], kernel, strides, dilations, around), channels)
    return Value(low.emit(kind, inputs, shape, **options), NHWC)


def _bias(low: Lowering, bias: Value | None, channels: int) -> Tensor:
    import numpy as np

    # XNNPACK takes a layer without a bias, tflite-runtime's own kernels do not always.
    return low.constant(np.zeros(channels, np.float32), "bias") if bias is None else bias.tensor


def _padding(padding: Pair | str, kernel: Sequence[int], dilation: Sequence[int]) -> list[tuple[int, int]]:
    """(before, after) for height and width."""
    if padding == "valid":
        return [(0, 0), (0, 0)]
    if isinstance(padding, str):
        totals = [step * (size - 1) for size, step in zip(kernel, dilation, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(width, width) for width in _pair(padding)]


def _sides(
    sides: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    around: Sequence[tuple[int, int]],
) -> list[int]:
    return [
        (side + sum(pad) - dilation * (size - 1) - 1) // stride + 1
        for side, size, stride, dilation, pad in zip(sides, kernel, strides, dilations, around, strict=True)
    ]


def _window(
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
    outs = _sides(sides, kernel, strides, dilations, around)
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


def linear(low: Lowering, x: Value, weight: Value, bias: Value | None = None) -> Value:
    """FULLY_CONNECTED, weights (out, in); a product of two computed matrices if the weights are no constant."""
    if weight.data is None:
        product = matmul(low, x, transpose(low, weight, 0, 1))
        return product if bias is None else ADD(low, product, bias)
    rank = len(x.order)
    if x.order[-1] != rank - 1:
        last = (*(axis for axis in x.order if axis != rank - 1), rank - 1)
        x = Value(low.arranged(x, last), last)
    out = weight.shape[0]
    inputs = [x.tensor, low.arranged(weight, (0, 1)), _bias(low, bias, out)]
    tensor = low.emit("FULLY_CONNECTED", inputs, (*x.tensor.shape[:-1], out), keep_num_dims=rank > 2)
    return Value(tensor, x.order)


def matmul(low: Lowering, x: Value, y: Value) -> Value:
    """A product over the last two axes; with a constant matrix on either side it is FULLY_CONNECTED."""
    if min(len(x.order), len(y.order)) < 2:
        raise low.refusal("a product with a vector")
    if y.data is not None and len(y.order) == 2:
        return linear(low, x, transpose(low, y, 0, 1))
    if x.data is not None and len(x.order) == 2 and len(y.order) == 2:
        return transpose(low, linear(low, transpose(low, y, 0, 1), x), 0, 1)
    rank = max(len(x.order), len(y.order), 3)
    left, right = (_stacked(low, part, rank) for part in (x, y))
    product = _product(low, left, right)
    lead = max(len(x.order), len(y.order)) - 2
    return reshape(low, product, product.shape[rank - 2 - lead :]) if lead < rank - 2 else product


def _stacked(low: Lowering, x: Value, rank: int) -> Value:
    """With axes of one element in front, and the matrices last, lying as they are or transposed."""
    if len(x.order) < rank:
        x = reshape(low, x, [1] * (rank - len(x.order)) + list(x.shape))
    order = _turned(rank) if x.axis(-1) < x.axis(-2) else identity(rank)
    return Value(low.arranged(x, order), order)


def _turned(rank: int) -> tuple[int, ...]:
    return (*identity(rank - 2), rank - 1, rank - 2)


def _product(low: Lowering, x: Value, y: Value) -> Value:
    """BATCH_MATMUL, whose left matrix has to lie as it is and whose right one may lie transposed.

    Where both lie transposed, yᵀ xᵀ is computed instead, so that nothing has to be turned.
    """
    import numpy as np

    rank = len(x.order)
    lead = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    rows, columns = x.shape[-2], y.shape[-1]
    if x.order == y.order == _turned(rank):
        inputs = [y.tensor, x.tensor]
        return Value(low.emit("BATCH_MATMUL", inputs, (*lead, columns, rows), adj_x=False, adj_y=False), x.order)
    inputs = [low.arranged(x, identity(rank)), y.tensor]
    turned = y.order == _turned(rank)
    product = low.emit("BATCH_MATMUL", inputs, (*lead, rows, columns), adj_x=False, adj_y=turned)
    return Value(product, identity(rank))


def addmm(low: Lowering, bias: Value, x: Value, y: Value, *, beta: float = 1, alpha: float = 1) -> Value:
    """bias + x y."""
    if (beta, alpha) != (1, 1):
        raise low.refusal("a scaled product")
    if y.data is not None and bias.data is not None and len(bias.shape) == 1:
        return linear(low, x, transpose(low, y, 0, 1), bias)
    if x.data is not None and bias.data is not None and bias.shape[-1] == 1:
        column = reshape(low, bias, [bias.shape[0]])
        return transpose(low, linear(low, transpose(low, y, 0, 1), x, column), 0, 1)
    return ADD(low, matmul(low, x, y), bias)


def attention(
    low: Lowering,
    query: Value,
    key: Value,
    value: Value,
    mask: Value | None = None,
    dropout: float = 0.0,
    causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    """Scaled dot-product attention as its products."""
    if causal or enable_gqa or dropout:
        raise low.refusal("attention that is causal, grouped or has dropout")
    scores = matmul(low, MULTIPLY(low, query, scale or query.shape[-1] ** -0.5), transpose(low, key, -2, -1))
    if mask is not None:
        scores = ADD(low, scores, mask)
    return matmul(low, softmax(low, scores, -1), value)


def softmax(low: Lowering, x: Value, axis: int, *_: Any) -> Value:
    """SOFTMAX over the axis, which has to be the file's last."""
    rank = len(x.order)
    order = (*(other for other in x.order if other != axis % rank), axis % rank)
    tensor = low.arranged(x, order)
    return Value(low.emit("SOFTMAX", [tensor], tensor.shape, beta=1.0), order)


def mean(low: Lowering, x: Value, axes: Sequence[int], keepdim: bool = False, *, dtype: Any = None) -> Value:
    """MEAN over the axes."""
    gone = sorted(x.axis(axis) for axis in axes)
    kept = [1 if place in gone else size for place, size in enumerate(x.tensor.shape)]
    shape = kept if keepdim else [size for place, size in enumerate(x.tensor.shape) if place not in gone]
    tensor = low.emit("MEAN", [x.tensor, low.ints(gone, "axes")], shape, keep_dims=keepdim)
    if keepdim:
        return Value(tensor, x.order)
    left = [axis for place, axis in enumerate(x.order) if place not in gone]
    return Value(tensor, tuple(sorted(left).index(axis) for axis in left))


def adaptive_average(low: Lowering, x: Value, sides: Pair) -> Value:
    """MEAN for one position, AVERAGE_POOL_2D for a divisor of the map's side."""
    wanted, found = _pair(sides), x.shape[2:]
    if wanted == (1, 1):
        return mean(low, x, [2, 3], True)
    if any(have % want for have, want in zip(found, wanted, strict=True)):
        raise low.refusal(f"adaptive pooling of {tuple(found)} to {wanted}")
    kernel = [have // want for have, want in zip(found, wanted, strict=True)]
    return _pool(low, "AVERAGE_POOL_2D", x, kernel, kernel, 0)


def max_pool(
    low: Lowering, x: Value, kernel: Pair, stride: Pair = (), padding: Pair = 0, dilation: Pair = 1, ceil: bool = False
) -> Value:
    """MAX_POOL_2D."""
    if ceil or _pair(dilation) != (1, 1):
        raise low.refusal("pooling with dilation or rounded up")
    # The lowest float, not infinity, which a quantizer could not put on its scale.
    return _pool(low, "MAX_POOL_2D", x, kernel, stride or kernel, padding, fill=-3.4e38)


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
    if ceil or divisor or (_pair(padding) != (0, 0) and not count_padding):
        raise low.refusal("average pooling that rounds up, or leaves the padding out")
    tensor = padded(low, low.arranged(x, NHWC), [(0, 0), *((width, width) for width in _pair(padding)), (0, 0)])
    return _pool(low, "AVERAGE_POOL_2D", Value(tensor, NHWC), kernel, stride or kernel, 0)


def _pool(low: Lowering, kind: str, x: Value, kernel: Pair, stride: Pair, padding: Pair, *, fill: float = 0.0) -> Value:
    sizes, strides, around = _pair(kernel), _pair(stride), [(width, width) for width in _pair(padding)]
    tensor, mode = _window(low, low.arranged(x, NHWC), sizes, strides, (1, 1), around, fill=fill)
    shape = (x.shape[0], *_sides(x.shape[2:], sizes, strides, (1, 1), around), x.shape[1])
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


def batch_norm(
    low: Lowering,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    average: Value,
    variance: Value,
    training: bool,
    momentum: float,
    epsilon: float,
    *_: Any,
) -> Value:
    """A product and a sum of constants, which `simplify` folds into the layer before."""
    import numpy as np

    if training or average.data is None or variance.data is None:
        raise low.refusal("batch normalisation that computes its own statistics")
    scale = 1 / np.sqrt(variance.data.astype(np.float64) + epsilon)
    if weight is not None and weight.data is not None:
        scale = scale * weight.data
    shift = (0 if bias is None or bias.data is None else bias.data) - average.data * scale
    spread = (-1, *[1] * (len(x.order) - 2))
    scaled, shifted = (
        Value(low.constant(array.reshape(spread), name), identity(len(spread)))
        for array, name in ((scale, "scale"), (shift, "shift"))
    )
    return ADD(low, MULTIPLY(low, x, scaled), shifted)


def layer_norm(
    low: Lowering,
    x: Value,
    shape: Sequence[int],
    weight: Value | None = None,
    bias: Value | None = None,
    epsilon: float = 1e-5,
    *_: Any,
) -> Value:
    """(x - mean) / √(variance + epsilon), in primitive operators."""
    axes = list(range(-len(shape), 0))
    # Squares and their root have too wide a range for 256 steps.
    with low.exactly():
        centred = SUBTRACT(low, x, mean(low, x, axes, True))
        variance = mean(low, MULTIPLY(low, centred, centred), axes, True)
        x = MULTIPLY(low, centred, RSQRT(low, ADD(low, variance, epsilon)))
        if weight is not None:
            x = MULTIPLY(low, x, weight)
        return x if bias is None else ADD(low, x, bias)


def resize(kind: str) -> Rule:
    """A rule for resizing 4-D maps to `size`, or by `scales`."""

    def rule(low: Lowering, x: Value, size: Sequence[int] | None, *rest: Any) -> Value:
        corners = bool(rest[0]) if kind == "RESIZE_BILINEAR" else False
        scales = rest[-1] if rest and isinstance(rest[-1], list) else []
        if not size and not scales:
            raise low.refusal("a resize without a size")
        sides = size or [int(side * scale) for side, scale in zip(x.shape[2:], scales, strict=True)]
        if kind == "RESIZE_NEAREST_NEIGHBOR" and any(to % of for to, of in zip(sides, x.shape[2:], strict=True)):
            raise low.refusal("a nearest-neighbour resize by a broken factor")
        inputs = [low.arranged(x, NHWC), low.ints(sides, "size")]
        halves = not corners
        tensor = low.emit(
            kind, inputs, (x.shape[0], *sides, x.shape[1]), align_corners=corners, half_pixel_centers=halves
        )
        return Value(tensor, NHWC)

    return rule


RULES: Final[dict[str, Rule]] = {
    "aten.conv2d.default": conv2d,
    "aten.conv2d.padding": conv2d,
    "aten.linear.default": linear,
    "aten.matmul.default": matmul,
    "aten.bmm.default": matmul,
    "aten.mm.default": matmul,
    "aten.addmm.default": addmm,
    "aten.scaled_dot_product_attention.default": attention,
    "aten.softmax.int": softmax,
    "aten._softmax.default": softmax,
    "aten.mean.dim": mean,
    "aten.adaptive_avg_pool2d.default": adaptive_average,
    "aten.max_pool2d.default": max_pool,
    "aten.avg_pool2d.default": average_pool,
    "aten.batch_norm.default": batch_norm,
    "aten._native_batch_norm_legit_no_training.default": batch_norm,
    "aten.layer_norm.default": layer_norm,
    "aten.upsample_nearest2d.vec": resize("RESIZE_NEAREST_NEIGHBOR"),
    "aten.upsample_bilinear2d.vec": resize("RESIZE_BILINEAR"),
}
