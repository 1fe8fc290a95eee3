"""Rules for matrix products, and for the softmax between two of them."""

from __future__ import annotations

from typing import Any, Final

from .lowering import Lowering, Rule, Value, identity
from .rules_convolutions import constant_bias
from .rules_pointwise import ADD, MULTIPLY
from .rules_shapes import reshape, transpose

# Far below every score, and far enough from infinity that a sum with it is finite.
MASKED: Final = -1e30


def linear(low: Lowering, x: Value, weight: Value, bias: Value | None = None) -> Value:
    """FULLY_CONNECTED, weights (out, in); a product of two computed matrices if the weights are no constant."""
    rank = len(x.order)
    if rank == 1:
        out = linear(low, reshape(low, x, [1, *x.shape]), weight, bias)
        return reshape(low, out, out.shape[1:])
    if weight.data is None:
        product = matmul(low, x, transpose(low, weight, 0, 1))
        return product if bias is None else ADD(low, product, bias)
    if x.order[-1] != rank - 1:
        last = (*(axis for axis in x.order if axis != rank - 1), rank - 1)
        x = Value(low.arranged(x, last), last)
    channels = weight.shape[0]
    inputs = [x.tensor, low.arranged(weight, (0, 1)), constant_bias(low, bias, channels)]
    tensor = low.emit("FULLY_CONNECTED", inputs, (*x.tensor.shape[:-1], channels), keep_num_dims=rank > 2)
    y = Value(tensor, x.order)
    return ADD(low, y, bias) if bias is not None and bias.data is None else y


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
    """bias + x y, of matrices or of batches of them."""
    if (beta, alpha) != (1, 1):
        raise low.refusal("a scaled product")
    if y.data is not None and len(y.order) == 2 and bias.data is not None and bias.shape == (y.shape[1],):
        return linear(low, x, transpose(low, y, 0, 1), bias)
    if x.data is not None and len(x.order) == 2 and bias.data is not None and bias.shape == (x.shape[0], 1):
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
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scores = matmul(low, MULTIPLY(low, query, factor), transpose(low, key, -2, -1))
    if mask is not None:
        scores = ADD(low, scores, _added(low, mask))
    return matmul(low, softmax(low, scores, -1), value)


def _added(low: Lowering, mask: Value) -> Value:
    """The mask as numbers to add: True, where there may be attention, becomes 0."""
    import numpy as np

    data = mask.data
    if data is None:
        return mask
    numbers = np.where(data, 0.0, MASKED) if data.dtype == np.bool_ else data.clip(MASKED, None)
    return Value(low.constant(numbers.astype(np.float32), "mask"), identity(data.ndim))


def softmax(low: Lowering, x: Value, axis: int, *_: Any, dtype: Any = None) -> Value:
    """SOFTMAX over the axis, which has to be the file's last."""
    rank = len(x.order)
    order = (*(other for other in x.order if other != axis % rank), axis % rank)
    tensor = low.arranged(x, order)
    return Value(low.emit("SOFTMAX", [tensor], tensor.shape, beta=1.0), order)


RULES: Final[dict[str, Rule]] = {
    "aten.linear.default": linear,
    "aten.matmul.default": matmul,
    "aten.bmm.default": matmul,
    "aten.mm.default": matmul,
    "aten.addmm.default": addmm,
    "aten.baddbmm.default": addmm,
    "aten.scaled_dot_product_attention.default": attention,
    "aten.softmax.int": softmax,
    "aten._softmax.default": softmax,
}
