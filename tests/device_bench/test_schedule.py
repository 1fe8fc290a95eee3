"""Turns: a random order in every round, more rounds only where they are needed, and the same again after a stop."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evit_edge.device_bench.protocol import EFFORTS, Effort
from evit_edge.device_bench.schedule import Pass, Taken, Turn, least_turns, next_turn, relative_half_width

QUICK = EFFORTS["quick"]
PASSES: list[Pass] = ["memory", "energy"]


def take(turn: Turn, value: float | None, *, seconds: float = 1.0) -> Taken:
    timed = turn.kind == "time"
    return Taken(turn=turn, seconds=seconds, value=value if timed else None, failed=value is None)


def played(
    value_of: Callable[[Turn], float | None],
    *,
    cells: int,
    effort: Effort = QUICK,
    seed: int = 0,
    begun: list[Taken] | None = None,
    most: int = 10**6,
) -> list[Taken]:
    taken = list(begun or [])
    while len(taken) < most and (turn := next_turn(taken, cells=cells, effort=effort, seed=seed, passes=PASSES)):
        taken.append(take(turn, value_of(turn)))
    return taken


def steady(turn: Turn) -> float:
    return 100.0 + turn.cell


def timed(taken: list[Taken], number: int) -> list[int]:
    return [each.turn.cell for each in taken if each.turn.kind == "time" and each.turn.round == number]


def test_every_round_has_every_cell_once_in_an_order_of_its_own_and_the_passes_come_last() -> None:
    taken = played(steady, cells=4)
    assert all(sorted(timed(taken, number)) == [0, 1, 2, 3] for number in range(6))
    assert len({tuple(timed(taken, number)) for number in range(6)}) > 2
    assert [each.turn.order for each in taken[:8]] == [0, 1, 2, 3] * 2
    assert [(each.turn.kind, each.turn.cell) for each in taken[-8:]] == [
        (kind, cell) for kind in PASSES for cell in range(4)
    ]


def test_no_cell_has_a_place_of_its_own() -> None:
    effort = replace(QUICK, processes=600, most_processes=600)
    taken = played(steady, cells=3, effort=effort)
    first = [timed(taken, number)[0] for number in range(600)]
    assert all(abs(first.count(cell) - 200) < 50 for cell in range(3))


def test_the_seed_decides_the_order() -> None:
    one, again, other = (played(steady, cells=5, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert [each.turn for each in one] != [each.turn for each in other]


def test_without_an_interval_there_are_more_rounds_until_there_is_one() -> None:
    taken = played(steady, cells=1)
    assert len(timed(taken, 5)) == 1
    assert not timed(taken, 6)


def test_rounds_are_added_for_what_is_too_wide_and_for_the_reference() -> None:
    rng = random.Random(0)

    def value(turn: Turn) -> float:
        return 100.0 * (1 + (0.3 * rng.random() if turn.cell == 2 else 0))

    taken = played(value, cells=4, effort=EFFORTS["default"])
    assert sorted(timed(taken, 9)) == [0, 1, 2, 3]
    assert sorted(timed(taken, 10)) == [0, 2]
    assert sorted(timed(taken, 39)) == [0, 2]
    assert not timed(taken, 40)


def test_a_cell_stops_at_its_time_however_wide_its_interval_is() -> None:
    effort = replace(EFFORTS["default"], cap_s=15.0)
    rng = random.Random(0)
    taken = played(lambda turn: 100 * (1 + rng.random()), cells=2, effort=effort)
    assert len(timed(taken, 14)) == 2
    assert not timed(taken, 15)


def test_a_cell_that_failed_takes_no_further_turn() -> None:
    taken = played(lambda turn: None if turn.cell == 1 and turn.round == 1 else 100.0, cells=3)
    assert 1 not in timed(taken, 2)
    assert sorted(timed(taken, 5)) == [0, 2]
    assert ("memory", 1) not in [(each.turn.kind, each.turn.cell) for each in taken]


def test_when_all_failed_nothing_is_left() -> None:
    taken = played(lambda turn: None, cells=3)
    assert [each.turn.round for each in taken] == [0, 0, 0]


def test_a_failed_reference_is_not_asked_for_again() -> None:
    rng = random.Random(1)
    taken = played(lambda turn: None if turn.cell == 0 else 100 * (1 + rng.random()), cells=3, effort=QUICK)
    assert sorted(timed(taken, 5)) == [1, 2]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_run_that_is_stopped_anywhere_goes_on_as_if_it_had_not_been(data: st.DataObject) -> None:
    cells, seed = data.draw(st.integers(1, 5)), data.draw(st.integers(0, 9))

    def value(turn: Turn) -> float | None:
        rng = random.Random(f"{turn.cell} {turn.round} {turn.kind} {seed}")
        return None if rng.random() < 0.03 else 100 * (1 + 0.2 * rng.random())

    whole = played(value, cells=cells, seed=seed)
    begun = played(value, cells=cells, seed=seed, most=data.draw(st.integers(0, len(whole))))
    assert played(value, cells=cells, seed=seed, begun=begun) == whole
    assert len({(each.turn.kind, each.turn.cell, each.turn.round) for each in whole}) == len(whole)


@pytest.mark.parametrize("name", ["quick", "default", "rigorous"])
def test_the_least_number_of_turns_is_what_a_steady_machine_takes(name: str) -> None:
    effort = replace(EFFORTS[name], processes=6, half_width=1.0)
    assert least_turns(3, effort=effort, passes=PASSES) == len(played(steady, cells=3, effort=effort))


def test_the_half_width_is_a_share_of_the_middle() -> None:
    assert relative_half_width([90.0, 95, 100, 100, 105, 110]) == pytest.approx(0.1)
    assert relative_half_width([1.0] * 5) is None
