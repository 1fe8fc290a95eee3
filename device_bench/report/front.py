"""Which rows are worth having: nobody told to be faster is as good. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .summary import Row

Cost = Callable[[Row], float]


def front(rows: Sequence[Row], *, cost: Cost) -> set[int]:
    """The places of the rows that are on the Pareto front of latency and `cost`, both the less the better.

    A row is off it only if another costs no more and is faster beyond doubt: its whole interval lies below. Rows that
    are not ranked are neither on it nor push another off.
    """
    return {
        place
        for place, row in enumerate(rows)
        if row.ranked and not any(_faster(other, row) and cost(other) <= cost(row) for other in rows if other.ranked)
    }


def steps(rows: Sequence[Row], *, cost: Cost) -> list[int]:
    """The places on the front of the medians and costs alone, without their intervals, from fast to slow."""
    found: list[int] = []
    order = sorted((place for place, row in enumerate(rows) if row.ranked), key=lambda place: _key(rows[place], cost))
    for place in order:
        if not found or cost(rows[place]) < cost(rows[found[-1]]):
            found.append(place)
    return found


def _faster(one: Row, other: Row) -> bool:
    if one.latency_high_ms is None or other.latency_low_ms is None:
        return False
    return one.latency_high_ms < other.latency_low_ms


def _key(row: Row, cost: Cost) -> tuple[float, float]:
    return row.latency_ms or 0.0, cost(row)
