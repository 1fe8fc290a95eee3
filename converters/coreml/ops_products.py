"""MIL's products of matrices."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .operators import operator


@operator
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The weight is (outputs, inputs)."""
    if x.is_floating_point():
        return F.linear(x, weight, bias)
    product = torch.matmul(x, weight.T)
    return product if bias is None else product + bias


@operator
def matmul(x: Tensor, y: Tensor, transpose_x: Tensor | bool = False, transpose_y: Tensor | bool = False) -> Tensor:
    """As in NumPy, after a transposition of the last two axes, which a vector has not."""
    left = x.mT if transpose_x and x.ndim > 1 else x
    right = y.mT if transpose_y and y.ndim > 1 else y
    return torch.matmul(left, right)


@operator
def einsum(values: tuple[Tensor, Tensor], equation: str) -> Tensor:
    """An axis of size 1 is broadcast to its letter's size."""
    return torch.einsum(equation, *values)


@operator
def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """A mask of booleans says what takes part, a mask of floats is added to the scores."""
    scores = torch.matmul(query, key.mT) / math.sqrt(query.shape[-1])
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return torch.matmul(torch.softmax(scores, -1), value)
