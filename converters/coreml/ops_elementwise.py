"""MIL's elementwise operators, of one and of two inputs; two inputs are broadcast as in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor

from .operators import operator

UNARY: Final[Mapping[str, Callable[[Tensor], Tensor]]] = {
    "abs": torch.abs,
    "acos": torch.acos,
    "asin": torch.asin,
    "atan": torch.atan,
    "atanh": torch.atanh,
    "ceil": torch.ceil,
    "cos": torch.cos,
    "cosh": torch.cosh,
    "erf": torch.erf,
    "exp": torch.exp,
    "floor": torch.floor,
    "logical_not": torch.logical_not,
    "round": torch.round,
    "sign": torch.sign,
    "sin": torch.sin,
    "sinh": torch.sinh,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "tan": torch.tan,
    "tanh": torch.tanh,
}
BINARY: Final[Mapping[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "add": torch.add,
    "equal": torch.eq,
    "floor_div": torch.floor_divide,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "mod": torch.remainder,
    "mul": torch.mul,
    "not_equal": torch.ne,
    "pow": torch.pow,
    "sub": torch.sub,
}
INTEGERS: Final[Mapping[str, torch.dtype]] = {"int8": torch.int8, "uint8": torch.uint8, "int16": torch.int16}


def _register_unary(name: str, function: Callable[[Tensor], Tensor]) -> None:
    def run(x: Tensor) -> Tensor:
        return function(x)

    run.__name__ = name
    operator(run)


def _register_binary(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    def run(x: Tensor, y: Tensor) -> Tensor:
        return function(x, y)

    run.__name__ = name
    operator(run)


for _name, _unary in UNARY.items():
    _register_unary(_name, _unary)
for _name, _binary in BINARY.items():
    _register_binary(_name, _binary)


@operator
def real_div(x: Tensor, y: Tensor) -> Tensor:
    """A quotient of integers is an integer, cut off towards zero."""
    return torch.div(x, y, rounding_mode=None if x.is_floating_point() else "trunc")


@operator
def exp2(x: Tensor) -> Tensor:
    """Of integers it is an integer, cut off: 0 for a negative one."""
    # In integers because a float's power can fall just short of the whole number, and would then be cut off below it.
    return torch.exp2(x) if x.is_floating_point() else torch.pow(torch.full_like(x, 2), x)


@operator
def clip(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """Everything is beta where alpha is above it."""
    return torch.clamp(x, alpha.item(), beta.item())


@operator
def threshold(x: Tensor, alpha: Tensor) -> Tensor:
    """alpha is the lower bound."""
    return torch.clamp(x, min=alpha.item())


@operator
def inverse(x: Tensor, epsilon: Tensor | float = 1e-4) -> Tensor:
    """Epsilon is added with its sign, so that a negative x may meet zero."""
    return torch.reciprocal(x + epsilon)


@operator
def log(x: Tensor, epsilon: Tensor | float = 1e-45) -> Tensor:
    """The default epsilon is the smallest float32, so that log(0) is finite."""
    return torch.log(x + epsilon)


@operator
def rsqrt(x: Tensor, epsilon: Tensor | float = 1e-12) -> Tensor:
    """Epsilon is added under the root."""
    return torch.rsqrt(x + epsilon)


@operator
def cast(x: Tensor, dtype: str) -> Tensor:
    """Floats are cut off towards zero, integers wrap around; the executor rounds to float16."""
    if dtype in ("fp16", "fp32"):
        return x.float()
    if dtype == "bool":
        return x.bool()
    # By way of int32, because what lies outside of a narrow dtype is undefined for a direct cast.
    whole = x.to(torch.int32)
    if dtype == "int32":
        return whole
    return whole & 0xFFFF if dtype == "uint16" else whole.to(INTEGERS[dtype])
