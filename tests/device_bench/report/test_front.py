"""Who is on the front: nobody is pushed off it by what chance may have done."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_edge.device_bench.report import summary
from evit_edge.device_bench.report.front import front, steps
from evit_edge.device_bench.report.summary import Row

from .comparisons import comparison

BASIS = summary.rows(comparison(0)[:1])[0]


def row(latency_ms: float, size_mib: float, *, off: float | None = 0.1, **changes: Any) -> Row:
    from dataclasses import replace

    low, high = (None, None) if off is None else (latency_ms - off, latency_ms + off)
    known = {"latency_ms": latency_ms, "latency_low_ms": low, "latency_high_ms": high, "size_mib": size_mib}
    return replace(BASIS, **(known | {"validity": "VALID"} | changes))


def size(row: Row) -> float:
    return row.size_mib or 0.0


@pytest.mark.parametrize(
    ("rows", "on_it"),
    [
        ([row(1, 5), row(2, 5)], {0}),
        ([row(1, 5), row(1.15, 5)], {0, 1}),
        ([row(1, 5), row(2, 4)], {0, 1}),
        ([row(1, 4), row(2, 5), row(3, 3)], {0, 2}),
        ([row(1, 5, off=None), row(2, 5)], {0, 1}),
        ([row(1, 5, validity="INVALID"), row(2, 5)], {1}),
        ([row(1, 5, status="failed"), row(2, 5)], {1}),
        ([], set()),
    ],
    ids=["slower", "intervals overlap", "smaller", "both", "no interval", "invalid", "failed", "none"],
)
def test_only_a_faster_one_by_its_whole_interval_pushes_a_row_off(rows: list[Row], on_it: set[int]) -> None:
    assert front(rows, cost=size) == on_it


def test_the_front_of_the_medians_is_a_stair_from_fast_to_slow() -> None:
    rows = [row(3, 3), row(1, 9), row(2, 9), row(1.05, 8), row(0.5, 1, validity="INVALID"), row(4, 3)]
    assert steps(rows, cost=size) == [1, 3, 0]


@given(st.lists(st.tuples(st.floats(0.5, 9), st.integers(1, 9)), max_size=8))
def test_whoever_is_on_the_stair_is_on_the_front(points: list[tuple[float, int]]) -> None:
    rows = [row(*point) for point in points]
    assert set(steps(rows, cost=size)) <= front(rows, cost=size)
