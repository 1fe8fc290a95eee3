"""What is held against what, whether it is measured now or was before, and how a regression is confirmed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..converters.artifact import Artifact, read
from ..models.errors import EdgeError, Unsupported
from .comparison import Comparison, Metric, side_by_side, with_history
from .plan import Cell
from .result import Result

Side = TypeVar("Side", Cell, Result)
Measure = Callable[[Sequence[Cell]], Sequence[Result]]
"""Measures cells in turns, in one session, and gives their results in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duel:
    """A baseline and a candidate: each a cell that can be measured now, or a result from earlier."""

    baseline: Cell | Result
    candidate: Cell | Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Regressed:
    """What came of measuring suspects again: all of it, what was found again, and what could not be measured again."""

    again: Sequence[Comparison]
    confirmed: Sequence[Comparison]
    recorded: Sequence[Comparison]


def of_cells(cells: Sequence[Cell]) -> list[Duel]:
    """The first cell of each number of threads and batch against every other; raises `Unsupported` if there is none."""
    found = _against_first(cells, lambda cell: (cell.threads, cell.batch))
    if not found:
        raise Unsupported("there is nothing to compare with", "name two artifacts, or --baseline RESULTS")
    return found


def of_results(results: Sequence[Result]) -> list[Duel]:
    """The same, of results of one session; what was measured at another time is not compared."""
    found = _against_first(results, lambda each: (each.session, each.threads, each.batch))
    if not found:
        raise Unsupported(
            "no two results were measured side by side", "name the file of a run that had both, or --baseline RESULTS"
        )
    return found


def against(old: Sequence[Result], new: Sequence[Result | Artifact]) -> list[Duel]:
    """Every one of `new` against the last of `old` that is its configuration.

    Measured anew where the artifacts still lie where they were. Raises `Unsupported` where nothing has a baseline.
    """
    latest = {_configuration(each): each for each in old}.values()
    found = [_measurable(baseline, each) for each in new for baseline in latest if _is_baseline(baseline, each)]
    if not found:
        raise Unsupported(
            "nothing has a baseline",
            "model, target and precision must be in both, and of results runtime, threads, batch and device too",
        )
    return found


def settle(duels: Sequence[Duel], measure: Measure, *, metric: Metric = "median") -> list[Comparison]:
    """A verdict on each duel, in order; all that can be measured now is, in one session."""
    cells: list[Cell] = []
    for side in (side for duel in duels for side in (duel.baseline, duel.candidate)):
        if isinstance(side, Cell) and side not in cells:
            cells.append(side)
    fresh = measure(cells) if cells else []
    pairs = [
        tuple(fresh[cells.index(side)] if isinstance(side, Cell) else side for side in (duel.baseline, duel.candidate))
        for duel in duels
    ]
    together = [(old, new) for old, new in pairs if old.session == new.session]
    apart = [(old, new) for old, new in pairs if old.session != new.session]
    judged = iter(side_by_side(together, metric=metric))
    suspected = iter(with_history(apart, metric=metric))
    return [next(judged if old.session == new.session else suspected) for old, new in pairs]


def regressed(
    duels: Sequence[Duel], found: Sequence[Comparison], measure: Measure, *, most: float, metric: Metric = "median"
) -> Regressed:
    """Which of the settled duels have a candidate that takes longer by more than the share `most`.

    What can be measured is, once more, and counts only if it is found again; the others count by their record.
    """
    slower = [(duel, one) for duel, one in zip(duels, found, strict=True) if one.is_regression(most)]
    recorded = [one for duel, one in slower if not isinstance(duel.candidate, Cell)]
    again = settle([duel for duel, _ in slower if isinstance(duel.candidate, Cell)], measure, metric=metric)
    return Regressed(again=again, confirmed=[one for one in again if one.is_regression(most)], recorded=recorded)


def _against_first(sides: Sequence[Side], key: Callable[[Side], object]) -> list[Duel]:
    firsts: dict[object, Side] = {}
    found = []
    for side in sides:
        first = firsts.setdefault(key(side), side)
        if first is not side:
            found.append(Duel(baseline=first, candidate=side))
    return found


def _measurable(old: Result, new: Result | Artifact) -> Duel:
    """Both to be measured now if the baseline can be; else the candidate alone, if it can."""
    candidate = _at_hand(new) or new if isinstance(new, Result) else _like(old, new)
    baseline = _at_hand(old)
    if baseline and isinstance(candidate, Cell):
        return Duel(baseline=baseline, candidate=candidate)
    return Duel(baseline=old, candidate=candidate)


def _like(result: Result, artifact: Artifact) -> Cell:
    return Cell(artifact=artifact, runtime=result.runtime, original=False, threads=result.threads, batch=result.batch)


def _at_hand(result: Result) -> Cell | None:
    """What was measured, if its artifact still lies where it was and is the same."""
    if result.artifact_path is None:
        return None
    try:
        artifact = read(Path(result.artifact_path))
    except EdgeError:
        return None
    return _like(result, artifact) if artifact.digest == result.artifact_digest else None


def _is_baseline(old: Result, new: Result | Artifact) -> bool:
    if isinstance(new, Artifact):
        manifest = new.manifest
        return (old.model, old.target, old.precision) == (manifest.model.name, manifest.target, manifest.precision)
    return _configuration(old) == _configuration(new)


def _configuration(result: Result) -> tuple[object, ...]:
    where = (result.runtime, result.threads, result.batch, result.device.device)
    return (result.model, result.target, result.precision, *where)
