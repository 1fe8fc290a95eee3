"""How large each value of a program becomes on real images: what fp16 has to hold, and what integers are scaled by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .executor import Executor
from .program import Operation, Program

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

Ranges = Mapping[str, tuple[float, float]]


def measure(
    program: Program, feeds: Iterable[Mapping[str, NDArray[Any]]], *, rounding: bool
) -> dict[str, tuple[float, float]]:
    """The least and the largest of every float value, inputs included, over all `feeds`.

    Without `rounding` they are those that the program means, also where fp16 would overflow. NaN spreads into them.
    """
    import numpy as np

    found: dict[str, tuple[float, float]] = {}

    def widen(name: str, values: Any) -> None:
        low, high = float(values.min()), float(values.max())
        known = found.get(name, (low, high))
        # Not `min`, which forgets a NaN that was there before.
        found[name] = (float(np.minimum(low, known[0])), float(np.maximum(high, known[1])))

    def see(operation: Operation, name: str, values: torch.Tensor) -> None:
        if values.is_floating_point() and values.numel():
            widen(name, values)

    executor = Executor(program, rounding=rounding)
    for feed in feeds:
        for name, array in feed.items():
            widen(name, array)
        executor.run(feed, observe=see)
    return found
