"""Rules for what computes each element by itself: sums, products, activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from .lowering import Lowering, Rule, Value, identity, is_free
from .rules_shapes import reshape


def scalar(low: Lowering, number: float) -> Value:
    """A constant of no axes."""
    import numpy as np

    if is_free(number):
        raise low.refusal("the size of a free batch as a number")
    return Value(low.constant(np.asarray(number, np.float32), "number"), ())


def binary(kind: str) -> Callable[..., Value]:
    """A rule for two operands that are broadcast against each other."""

    def rule(low: Lowering, x: Value | float, y: Value | float, alpha: float = 1, *, name: str = "") -> Value:
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
    for value in (_floating(low, left), _floating(low, right)):
        if value.tensor.data is not None and value.tensor.data.size == 1:
            tensors.append(low.constant(value.tensor.data.reshape(()), "number"))
        else:
            tensors.append(low.arranged(_with_rank(low, value, rank), order))
    shape = np.broadcast_shapes(*(tensor.shape for tensor in tensors))
    return Value(low.emit(kind, tensors, shape, name=name), order)


def _floating(low: Lowering, value: Value) -> Value:
    """The model may add integers to floats; TFLite computes only with what is of one type."""
    data = value.tensor.data
    if data is None or data.dtype.name == "float32":
        return value
    return Value(low.constant(data.astype("float32"), "constant"), value.order)


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


def divide(low: Lowering, x: Value | float, y: Value | float) -> Value:
    """x / y; by a constant it is a product, which can be folded and has an int8 kernel."""
    import numpy as np

    y = y if isinstance(y, Value) else scalar(low, y)
    data = y.data
    if data is None or (data == 0).any() or (isinstance(x, Value) and x.data is not None):
        return DIVIDE(low, x, y)
    reciprocal = low.constant(np.asarray(1 / data.astype(np.float64)), "reciprocal")
    return MULTIPLY(low, x, Value(reciprocal, identity(data.ndim)))


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


def prelu(low: Lowering, x: Value, slope: Value) -> Value:
    """x, or slope · x below zero, one slope a channel."""
    below = binary("MINIMUM")(low, x, 0.0)
    spread = [-1, *[1] * (len(x.order) - 2)] if len(x.order) > 2 else [-1]
    return ADD(low, unary("RELU")(low, x), MULTIPLY(low, below, reshape(low, slope, spread)))


def elu(low: Lowering, x: Value, alpha: float = 1.0, scale: float = 1.0, slope: float = 1.0) -> Value:
    """scale · (x, or alpha · (exp(slope · x) - 1) below zero), of which TFLite has the one whose numbers are all 1."""
    if (alpha, scale, slope) == (1, 1, 1):
        return unary("ELU")(low, x)
    below = unary("ELU")(low, MULTIPLY(low, binary("MINIMUM")(low, x, 0.0), slope))
    y = ADD(low, unary("RELU")(low, x), MULTIPLY(low, below, alpha))
    return y if scale == 1 else MULTIPLY(low, y, scale)


def convert(low: Lowering, x: Value, *_: Any, dtype: Any = None, **__: Any) -> Value:
    """To float32: a constant is converted, what is computed is float32 already."""
    import numpy as np
    import torch

    wanted = next((part for part in _ if isinstance(part, torch.dtype)), dtype)
    if wanted not in (None, torch.float32):
        raise low.refusal(f"numbers of {wanted}")
    return x if x.data is None else Value(low.constant(x.tensor.data.astype(np.float32), "float"), x.order)  # type: ignore[union-attr]


def power(low: Lowering, x: Value, exponent: float) -> Value:
    """x to a number; a square is a product."""
    if exponent == 2:
        return MULTIPLY(low, x, x)
    return binary("POW")(low, x, exponent)


def reverse_subtract(low: Lowering, x: Value, y: Value | float, alpha: float = 1) -> Value:
    """y - alpha · x."""
    return SUBTRACT(low, y, MULTIPLY(low, x, alpha) if alpha != 1 else x)


_ARITHMETIC: Final[dict[str, Rule]] = {
    "add": ADD,
    "sub": SUBTRACT,
    "mul": MULTIPLY,
    "div": divide,
    "rsub": reverse_subtract,
}

RULES: Final[dict[str, Rule]] = {
    **{f"aten.{name}.{form}": rule for name, rule in _ARITHMETIC.items() for form in ("Tensor", "Scalar")},
    "aten.maximum.default": binary("MAXIMUM"),
    "aten.minimum.default": binary("MINIMUM"),
    "aten.pow.Tensor_Scalar": power,
    "aten.relu.default": unary("RELU"),
    "aten.relu6.default": RELU6,
    "aten.hardtanh.default": hardtanh,
    "aten.clamp.default": clamp,
    "aten.clamp_min.default": clamp,
    "aten.clamp_max.default": lambda low, x, most: clamp(low, x, None, most),
    "aten.hardswish.default": unary("HARD_SWISH"),
    "aten.hardsigmoid.default": hardsigmoid,
    "aten.sigmoid.default": SIGMOID,
    "aten.tanh.default": unary("TANH"),
    "aten.silu.default": silu,
    "aten.gelu.default": gelu,
    "aten.leaky_relu.default": leaky_relu,
    "aten.elu.default": elu,
    "aten.celu.default": lambda low, x, alpha=1.0: elu(low, x, alpha, 1.0, 1 / alpha),
    "aten.prelu.default": prelu,
    "aten.exp.default": unary("EXP"),
    "aten.sqrt.default": unary("SQRT"),
    "aten.rsqrt.default": RSQRT,
    "aten.reciprocal.default": lambda low, x: DIVIDE(low, 1.0, x),
    "aten.neg.default": unary("NEG"),
    "aten.abs.default": unary("ABS"),
    "aten.to.dtype": convert,
    "aten._to_copy.default": convert,
}
