"""Where a program loses: each operator's results with rounding beside those without, on the same inputs."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .executor import Executor
from .program import Operation, Program, flattened

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One result of one operator, over all samples.

    `largest` is the largest |x| that the program means, `finite` whether rounding kept every value finite. `sqnr_db` is
    10·log10(Σ exact² / Σ (exact - rounded)²), infinite where nothing differs; `lost_db` is how much less that is than
    for the operator's worst input: where it is large, an error starts.
    """

    name: str
    kind: str
    dtype: str
    largest: float
    finite: bool
    sqnr_db: float
    lost_db: float


@dataclass(slots=True)
class _Sums:
    signal: float = 0.0
    noise: float = 0.0
    largest: float = 0.0
    finite: bool = True

    def add(self, exact: torch.Tensor, rounded: torch.Tensor) -> None:
        self.signal += float(exact.double().square().sum())
        self.noise += float((exact.double() - rounded.double()).square().sum())
        self.largest = max(self.largest, float(exact.abs().max()))
        self.finite = self.finite and bool(rounded.isfinite().all())

    @property
    def sqnr_db(self) -> float:
        if not self.finite or math.isnan(self.noise):
            return -math.inf
        if self.noise == 0:
            return math.inf
        return 10 * math.log10(self.signal / self.noise) if self.signal else -math.inf


def trace(program: Program, feeds: Iterable[Mapping[str, NDArray[Any]]]) -> list[Step]:
    """The float results, those of a loop over all iterations, in the order of a run; raises as `Executor` does.

    What only one of both runs has, because rounding led it another way, is left out. A list or a state has no figures.
    """
    exact, rounded = Executor(program, rounding=False), Executor(program)
    sums: dict[str, _Sums] = {}
    meant: dict[str, deque[torch.Tensor]] = {}

    def remember(operation: Operation, name: str, values: torch.Tensor) -> None:
        meant.setdefault(name, deque()).append(values)

    def compare(operation: Operation, name: str, values: torch.Tensor) -> None:
        wanted = meant[name].popleft() if meant.get(name) else None
        if values.is_floating_point() and values.numel() and wanted is not None and wanted.shape == values.shape:
            sums.setdefault(name, _Sums()).add(wanted, values)

    for feed in feeds:
        meant.clear()
        exact.run(feed, observe=remember)
        rounded.run(feed, observe=compare)
    return [
        _step(operation, name, sums)
        for operation in flattened(program.operations)
        for name in operation.outputs
        if name in sums
    ]


def _step(operation: Operation, name: str, sums: Mapping[str, _Sums]) -> Step:
    before = [sums[taken].sqnr_db for names in operation.inputs.values() for taken in names if taken in sums]
    kind, found = operation.outputs[name], sums[name]
    worst = min(before, default=math.inf)
    return Step(
        name=name,
        kind=operation.kind,
        dtype=kind.dtype if kind else "",
        largest=found.largest,
        finite=found.finite,
        sqnr_db=found.sqnr_db,
        # Infinite minus infinite is nothing lost.
        lost_db=0.0 if worst == found.sqnr_db else worst - found.sqnr_db,
    )
