"""Whose turn it is: decided from what has been measured so far and the seed alone, so that a run can be taken up again.

All configurations of a device take turns in rounds of random order, so that a machine that slows down slows all of them
(Abedi & Brecht, *Conducting Repeatable Experiments in Highly Variable Cloud Computing Environments*, ICPE 2017).
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from .protocol import Effort
from .statistics import series_interval

Pass = Literal["time", "memory", "energy", "sustained", "parity"]
# It takes part in every round that is added, so that there is always something to compare with side by side.
REFERENCE: Final = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A fresh process for a cell, by its place among all; `round` and `order`, its place in the round, are from 0."""

    cell: int
    kind: Pass
    round: int = 0
    order: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A turn that was taken, and how many seconds it took; `value` is a timed one's median, None where it failed."""

    turn: Turn
    seconds: float
    value: float | None
    failed: bool


def next_turn(
    taken: Sequence[Taken], *, cells: int, effort: Effort, seed: int, passes: Sequence[Pass] = ("memory",)
) -> Turn | None:
    """What comes after `taken`: rounds of timed turns, then one turn a cell of each of `passes`; None when all is done.

    A cell that failed takes no further turn. After the effort's rounds there are more, for the cells whose interval is
    still too wide and for the reference.
    """
    failed = {each.turn.cell for each in taken if each.failed}
    done = {(each.turn.kind, each.turn.cell, each.turn.round) for each in taken}
    # Rounds come one after another: all before the last one that was begun are over.
    number = max((each.turn.round for each in taken if each.turn.kind == "time"), default=0)
    while members := _members(number, taken, cells=cells, effort=effort):
        for order, cell in enumerate(_shuffled(members, number, seed=seed)):
            if cell not in failed and ("time", cell, number) not in done:
                return Turn(cell=cell, kind="time", round=number, order=order)
        number += 1
    for kind in passes:
        for cell in range(cells):
            if cell not in failed and (kind, cell, 0) not in done:
                return Turn(cell=cell, kind=kind)
    return None


def least_turns(cells: int, *, effort: Effort, passes: Sequence[Pass] = ("memory",)) -> int:
    """How many turns there are if none fails and no round is added."""
    return cells * (effort.processes + len(passes))


def relative_half_width(values: Sequence[float]) -> float | None:
    """Half the width of the interval of the median, as a share of its middle; `values` are in the order of time.

    None if there are too few.
    """
    interval = series_interval(values)
    return (interval.high - interval.low) / (interval.high + interval.low) if interval else None


def _members(number: int, taken: Sequence[Taken], *, cells: int, effort: Effort) -> Collection[int]:
    """The cells of a round, by what was known before it began."""
    before = [each for each in taken if each.turn.kind == "time" and each.turn.round < number]
    failed = {each.turn.cell for each in before if each.failed}
    alive = [cell for cell in range(cells) if cell not in failed]
    if number < effort.processes or not alive:
        return alive
    if number >= effort.most_processes:
        return []
    wanting = [cell for cell in alive if _wants_more([each for each in before if each.turn.cell == cell], effort)]
    reference = [REFERENCE] if wanting and REFERENCE in alive else []
    return sorted({*reference, *wanting})


def _wants_more(taken: Sequence[Taken], effort: Effort) -> bool:
    width = relative_half_width([each.value for each in taken if each.value is not None])
    return sum(each.seconds for each in taken) < effort.cap_s and (width is None or width > effort.half_width)


def _shuffled(cells: Collection[int], number: int, *, seed: int) -> list[int]:
    return random.Random(f"{seed} {number}").sample(sorted(cells), len(cells))
