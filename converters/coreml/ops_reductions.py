"""MIL's reductions: over the axes that are said, else over all; an integer's result is an integer, cut off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor

from .operators import operator

Reduce = Callable[[Tensor, list[int], bool], Tensor]


def _prod(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    # PyTorch multiplies over one axis at a time; from the last one on, the others keep their numbers.
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = torch.prod(x, axis, keepdim=keep)
    return x


EXACT: Final[Mapping[str, Reduce]] = {
    "reduce_l1_norm": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep),
    "reduce_max": lambda x, axes, keep: torch.amax(x, axes, keepdim=keep),
    "reduce_min": lambda x, axes, keep: torch.amin(x, axes, keepdim=keep),
    "reduce_prod": _prod,
    "reduce_sum": lambda x, axes, keep: torch.sum(x, axes, keepdim=keep),
    "reduce_sum_square": lambda x, axes, keep: x.square().sum(axes, keepdim=keep),
}
FRACTIONAL: Final[Mapping[str, Reduce]] = {
    "reduce_l2_norm": lambda x, axes, keep: x.square().sum(axes, keepdim=keep).sqrt(),
    "reduce_log_sum": lambda x, axes, keep: x.sum(axes, keepdim=keep).log(),
    "reduce_log_sum_exp": lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep),
    "reduce_mean": lambda x, axes, keep: torch.mean(x, axes, keepdim=keep),
}


def _register(name: str, function: Reduce, *, fractional: bool) -> None:
    def run(x: Tensor, axes: Tensor | None = None, keep_dims: Tensor | bool = False) -> Tensor:
        over = list(range(x.ndim)) if axes is None else axes.tolist()
        value = x.double() if fractional and not x.is_floating_point() else x
        return function(value, over, bool(keep_dims)).to(x.dtype)

    run.__name__ = name
    operator(run)


for _name, _function in EXACT.items():
    _register(_name, _function, fractional=False)
for _name, _function in FRACTIONAL.items():
    _register(_name, _function, fractional=True)


@operator
def reduce_argmax(
    x: Tensor, axis: Tensor | int = -1, keep_dims: Tensor | bool = False, output_dtype: str = "int32"
) -> Tensor:
    """The first of equals; the executor has uint16 in int32."""
    return torch.argmax(x, int(axis), keepdim=bool(keep_dims)).int()


@operator
def reduce_argmin(
    x: Tensor, axis: Tensor | int = -1, keep_dims: Tensor | bool = False, output_dtype: str = "int32"
) -> Tensor:
    """The first of equals; the executor has uint16 in int32."""
    return torch.argmin(x, int(axis), keepdim=bool(keep_dims)).int()
