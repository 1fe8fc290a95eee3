"""MIL's control flow. A block comes as a function of its inputs, which gives the tuple of its results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from torch import Tensor

from .operators import operator

Blocks = tuple[Callable[..., tuple[Any, ...]], ...]

# A loop that runs longer is taken for one that never ends.
LIMIT: Final = 1_000_000


@operator
def cond(pred: Tensor, blocks: Blocks) -> tuple[Any, ...]:
    """The second block is the one for False."""
    true, false = blocks
    return true() if pred else false()


@operator
def while_loop(loop_vars: tuple[Any, ...], blocks: Blocks) -> tuple[Any, ...]:
    """The condition is asked first, so that the body may never run."""
    condition, body = blocks
    for _ in range(LIMIT):
        (again,) = condition(*loop_vars)
        if not again:
            return loop_vars
        loop_vars = body(*loop_vars)
    raise RuntimeError(f"it has not ended after {LIMIT} iterations")
