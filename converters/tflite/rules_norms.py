"""Rules for means, and for normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from .lowering import Lowering, Rule, Value, identity
from .rules_pointwise import ADD, MULTIPLY, RSQRT, SUBTRACT


def mean(
    low: Lowering, x: Value, axes: Sequence[int] | None = None, keepdim: bool = False, *, dtype: Any = None
) -> Value:
    """MEAN over the axes, over all if none is named."""
    gone = sorted(x.axis(axis) for axis in axes or x.order)
    kept = [1 if place in gone else size for place, size in enumerate(x.tensor.shape)]
    shape = kept if keepdim else [size for place, size in enumerate(x.tensor.shape) if place not in gone]
    tensor = low.emit("MEAN", [x.tensor, low.ints(gone, "axes")], shape, keep_dims=keepdim)
    if keepdim:
        return Value(tensor, x.order)
    left = [axis for place, axis in enumerate(x.order) if place not in gone]
    return Value(tensor, tuple(sorted(left).index(axis) for axis in left))


def batch_norm(
    low: Lowering,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    average: Value | None,
    variance: Value | None,
    training: bool,
    momentum: float,
    epsilon: float,
    *_: Any,
) -> Value:
    """A product and a sum of constants, which `simplify` folds into the layer before."""
    import numpy as np

    numbers = [None if part is None else part.data for part in (weight, bias, average, variance)]
    if training or numbers[2] is None or numbers[3] is None:
        raise low.refusal("batch normalisation that computes its own statistics")
    if any(part is not None and part.data is None for part in (weight, bias)):
        raise low.refusal("batch normalisation whose weights are computed")
    scale = 1 / np.sqrt(numbers[3].astype(np.float64) + epsilon)
    scale = scale if numbers[0] is None else scale * numbers[0]
    shift = (0 if numbers[1] is None else numbers[1]) - numbers[2] * scale
    spread = (-1, *[1] * (len(x.order) - 2))
    scaled, shifted = (
        Value(low.constant(array.reshape(spread), name), identity(len(spread)))
        for array, name in ((scale, "scale"), (shift, "shift"))
    )
    return ADD(low, MULTIPLY(low, x, scaled), shifted)


def inference_batch_norm(low: Lowering, x: Value, *statistics: Any) -> list[Value]:
    """`batch_norm` with the signature of `_native_batch_norm_legit_no_training`."""
    *parameters, momentum, epsilon = statistics
    return [batch_norm(low, x, *parameters, False, momentum, epsilon)]


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


def native_layer_norm(low: Lowering, x: Value, *rest: Any) -> list[Value]:
    """`layer_norm`, without the statistics that training would want."""
    return [layer_norm(low, x, *rest)]


RULES: Final[dict[str, Rule]] = {
    "aten.mean.dim": mean,
    "aten.mean.default": mean,
    "aten.batch_norm.default": batch_norm,
    "aten._native_batch_norm_legit_no_training.default": inference_batch_norm,
    "aten.layer_norm.default": layer_norm,
    "aten.native_layer_norm.default": native_layer_norm,
}
