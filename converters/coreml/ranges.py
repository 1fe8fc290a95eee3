"""How large each value of a program becomes on real images: what fp16 has to hold, and what integers are scaled by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..histogram import Extremes, tally
from .executor import Executor
from .program import Operation, Program

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

Ranges = Mapping[str, tuple[float, float]]


def measure(
    program: Program, feeds: Iterable[Mapping[str, NDArray[Any]]], *, rounding: bool, method: str = "minmax"
) -> dict[str, tuple[float, float]]:
    """The range of every float value, inputs included, over all `feeds`; `method` is one of `histogram.NAMES`.

    Without `rounding` they are those that the program means, also where fp16 would overflow. NaN spreads into them.
    """
    found: dict[str, Extremes] = {}

    def see(operation: Operation, name: str, values: torch.Tensor) -> None:
        if values.is_floating_point() and values.numel():
            found.setdefault(name, tally(method)).add(values.numpy())

    executor = Executor(program, rounding=rounding)
    for feed in feeds:
        for name, array in feed.items():
            found.setdefault(name, tally(method)).add(array)
        executor.run(feed, observe=see)
    return {name: seen.bounds for name, seen in found.items()}
