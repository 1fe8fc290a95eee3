"""Rules for what computes each element by itself: sums, products, activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from .lowering import Lowering, Rule, Value, identity, scalar
from .rules_shapes import reshape, same


def binary(kind: str) -> Callable[..., Value]:
    """A rule for two operands that are broadcast against each other."""

    def rule(low: Lowering, x: Value | float, y: Value | float, *, alpha: float = 1, name: str = "") -> Value:
        left, right = (part if isinstance(part, Value) else scalar(low, part) for part in (x, y))
        if alpha != 1:
            right = MULTIPLY(low, right, alpha)
        return broadcast(low, kind, left, right, name=name)

    return rule


def broadcast(low: Lowering, kind: str, left: Value, right: Value, *, name: str = "") -> Value:
    """`kind` of both, in the order of the operand that has more elements in the file."""
    import numpy as np

    if left.tensor.data is not None and right.tensor.data is not None:
        return _computed(low, kind, left, right)
    rank = max(len(left.order), len(right.order))
    lead = max((left, right), key=lambda value: (value.tensor.data is None, len(value.order), np.prod(value.shape)))
    order = _with_rank(low, lead, rank).order
    tensors = []
    for value in (left, right):
        if value.tensor.data is not None and value.tensor.data.size == 1:
            tensors.append(low.constant(value.tensor.data.reshape(()), "number"))
        else:
            tensors.append(low.arranged(_with_rank(low, value, rank), order))
    shape = np.broadcast_shapes(*(tensor.shape for tensor in tensors))
    return Value(low.emit(kind, tensors, shape, name=name), order)


def _with_rank(low: Lowering, value: Value, rank: int) -> Value:
    if len(value.order) == rank:
        return value
    return reshape(low, value, [1] * (rank - len(value.order)) + list(value.shape))


def _computed(low: Lowering, kind: str, left: Value, right: Value) -> Value:
    import numpy as np

    functions: dict[str, Any] = {
        "ADD": np.add,
        "SUB": np.subtract,
        "MUL": np.multiply,
        "DIV": np.divide,
        "MAXIMUM": np.maximum,
        "MINIMUM": np.minimum,
    }
    if kind not in functions:
        raise low.refusal(f"{kind} of two constants")
    array = functions[kind](left.data, right.data)
    return Value(low.constant(array, "computed"), identity(array.ndim))


ADD: Final = binary("ADD")
SUBTRACT: Final = binary("SUB")
MULTIPLY: Final = binary("MUL")
DIVIDE: Final = binary("DIV")


def unary(kind: str, **options: Any) -> Callable[..., Value]:
    """A rule for one operand."""

    def rule(low: Lowering, x: Value) -> Value:
        return Value(low.emit(kind, [x.tensor], x.tensor.shape, **options), x.order)

    return rule


SIGMOID: Final = unary("LOGISTIC")
RELU6: Final = unary("RELU6")
RSQRT: Final = unary("RSQRT")


def hardtanh(low: Lowering, x: Value, low_end: float = -1.0, high_end: float = 1.0) -> Value:
    """Clamped at both ends."""
    return clamp(low, x, low_end, high_end)


def clamp(low: Lowering, x: Value, least: float | None = None, most: float | None = None) -> Value:
    """RELU, RELU6 or RELU_N1_TO_1 where the ends are theirs, since those can be fused; else MAXIMUM and MINIMUM."""
    known = {(0, 6): "RELU6", (-1, 1): "RELU_N1_TO_1", (0, None): "RELU"}
    kind = known.get((least, most))  # type: ignore[arg-type]
    if kind:
        return unary(kind)(low, x)
    if least is not None:
        x = binary("MAXIMUM")(low, x, least)
    return x if most is None else binary("MINIMUM")(low, x, most)


def hardsigmoid(low: Lowering, x: Value) -> Value:
    """relu6(x + 3) / 6."""
    return MULTIPLY(low, RELU6(low, ADD(low, x, 3.0)), 1 / 6)


def silu(low: Lowering, x: Value) -> Value:
    """x · sigmoid(x)."""
    return MULTIPLY(low, x, SIGMOID(low, x))


def gelu(low: Lowering, x: Value, *, approximate: str = "none") -> Value:
    """GELU, exact or by tanh."""
    return unary("GELU", approximate=approximate == "tanh")(low, x)


def leaky_relu(low: Lowering, x: Value, slope: float = 0.01) -> Value:
    """x, or slope · x below zero."""
    return unary("LEAKY_RELU", alpha=slope)(low, x)


def power(low: Lowering, x: Value, exponent: float) -> Value:
    """x to a number; a square is a product."""
    if exponent == 2:
        return MULTIPLY(low, x, x)
    return binary("POW")(low, x, exponent)


def reverse_subtract(low: Lowering, x: Value, y: float, alpha: float = 1) -> Value:
    """y - alpha · x."""
    return SUBTRACT(low, y, MULTIPLY(low, x, alpha) if alpha != 1 else x)


RULES: Final[dict[str, Rule]] = {
    **{
        f"aten.{name}.{overload}": rule
        for name, rule in {
            "add": ADD,
            "sub": SUBTRACT,
            "mul": MULTIPLY,
            "div": DIVIDE,
            "add_": ADD,
            "sub_": SUBTRACT,
            "mul_": MULTIPLY,
            "div_": DIVIDE,
        }.items()
        for overload in ("Tensor", "Scalar")
    },
    "aten.rsub.Scalar": reverse_subtract,
    "aten.maximum.default": binary("MAXIMUM"),
    "aten.minimum.default": binary("MINIMUM"),
    "aten.pow.Tensor_Scalar": power,
    "aten.relu.default": unary("RELU"),
    "aten.relu_.default": unary("RELU"),
    "aten.relu6.default": RELU6,
    "aten.hardtanh.default": hardtanh,
    "aten.hardtanh_.default": hardtanh,
    "aten.clamp.default": clamp,
    "aten.clamp_min.default": clamp,
    "aten.hardswish.default": unary("HARD_SWISH"),
    "aten.hardswish_.default": unary("HARD_SWISH"),
    "aten.hardsigmoid.default": hardsigmoid,
    "aten.hardsigmoid_.default": hardsigmoid,
    "aten.sigmoid.default": SIGMOID,
    "aten.tanh.default": unary("TANH"),
    "aten.silu.default": silu,
    "aten.silu_.default": silu,
    "aten.gelu.default": gelu,
    "aten.leaky_relu.default": leaky_relu,
    "aten.elu.default": unary("ELU"),
    "aten.exp.default": unary("EXP"),
    "aten.sqrt.default": unary("SQRT"),
    "aten.rsqrt.default": RSQRT,
    "aten.neg.default": unary("NEG"),
    "aten.abs.default": unary("ABS"),
    "aten.to.dtype": same,
}
