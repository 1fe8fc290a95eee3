"""A verdict needs rounds side by side, an order drawn by lot, a change that matters and little chance."""

from __future__ import annotations

import math
import random
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evit_edge.device_bench.verdict import Reading, Verdict, against_history, compare, holm, noise_floor

times = st.integers(1, 10**9).map(float)


def sides(
    old: list[float], new: list[float], *, session: str = "s", orders: list[int] | None = None
) -> tuple[list[Reading], list[Reading]]:
    """Readings of rounds side by side, in which the two ran first in turn, or the baseline in places `orders`."""
    places = orders or [number % 2 for number in range(len(old))]
    return (
        [Reading(session=session, round=n, order=places[n], value=value) for n, value in enumerate(old)],
        [Reading(session=session, round=n, order=1 - places[n], value=value) for n, value in enumerate(new)],
    )


def noisy(count: int, factor: float = 1.0, *, noise: float = 0.01, seed: int = 0) -> list[float]:
    rng = random.Random(f"{factor} {seed}")
    return [1e6 * factor * (1 + noise * rng.random()) for _ in range(count)]


def test_a_slower_candidate_is_slower_and_a_faster_one_faster() -> None:
    slower = compare(*sides(noisy(10), noisy(10, 1.1)))
    assert (slower.kind, slower.pairs, slower.reason, slower.suspected) == ("slower", 10, "", False)
    assert slower.change == pytest.approx(0.1, abs=0.01)
    assert slower.interval is not None
    assert slower.interval.low <= 0.1 <= slower.interval.high
    assert slower.interval.coverage == 1 - 2 * 11 / 1024
    assert slower.p == 2 / 2**10
    faster = compare(*sides(noisy(10), noisy(10, 0.9)))
    assert faster.kind == "faster"
    assert faster.change == pytest.approx(-0.1, abs=0.01)


def test_equal_ones_are_the_same() -> None:
    found = compare(*sides(noisy(10), noisy(10, seed=1)))
    assert found.kind == "same"
    identical = compare(*sides([5.0] * 10, [5.0] * 10))
    assert (identical.kind, identical.change, identical.p) == ("same", 0, 1)


def test_a_small_change_is_the_same_however_sure() -> None:
    found = compare(*sides(noisy(20, noise=1e-4), noisy(20, 1.02, noise=1e-4)))
    assert found.p is not None
    assert found.p < 1e-5
    assert found.kind == "same"


@pytest.mark.parametrize("factor", [1.0, 1.1, 10.0])
def test_nine_rounds_give_no_verdict(factor: float) -> None:
    found = compare(*sides(noisy(9), noisy(9, factor)))
    assert (found.kind, found.pairs, found.p) == ("inconclusive", 9, None)
    assert found.change == pytest.approx(factor - 1, abs=0.05)
    assert found.reason == "9 rounds side by side, a verdict takes 10"


def test_only_the_same_round_of_the_same_session_is_side_by_side() -> None:
    old, new = sides(noisy(10), noisy(10, 1.5))
    later = [Reading(session=one.session, round=one.round + 10, order=one.order, value=one.value) for one in new]
    elsewhere = sides(noisy(10), noisy(10, 1.5), session="t")[1]
    for other in (later, elsewhere, []):
        found = compare(old, other)
        assert (found.kind, found.pairs, found.change) == ("inconclusive", 0, None)
        assert found.reason == "not measured side by side"
    assert compare(old, [*later, *new[:4]]).pairs == 4


def test_rounds_of_several_sessions_count_together() -> None:
    parts = [sides(noisy(5, seed=n), noisy(5, 1.2, seed=n), session=f"session {n}") for n in range(2)]
    found = compare([one for old, _ in parts for one in old], [one for _, new in parts for one in new])
    assert (found.kind, found.pairs) == ("slower", 10)


@pytest.mark.parametrize("first", [0, 1])
def test_an_order_that_was_not_random_gives_no_verdict(first: int) -> None:
    for factor in (1.0, 1.3):
        found = compare(*sides(noisy(10), noisy(10, factor), orders=[first] * 10))
        assert found.kind == "inconclusive"
        assert found.reason == f"the baseline ran first in {10 * (1 - first)} of 10 rounds, not by lot"
    nearly = [first] * 9 + [1 - first]
    assert compare(*sides(noisy(10), noisy(10, 1.3), orders=nearly)).kind == "slower"


def test_nothing_can_be_told_of_a_result_next_to_itself() -> None:
    old, _ = sides(noisy(10), noisy(10))
    assert compare(old, old).kind == "inconclusive"


def test_a_change_within_the_noise_floor_is_no_verdict() -> None:
    two = sides(noisy(10), noisy(10, 1.06))
    assert compare(*two, noise_floor=0.04).kind == "slower"
    found = compare(*two, noise_floor=0.08)
    assert found.kind == "inconclusive"
    assert "within the noise of 8.0%" in found.reason


def test_what_is_too_noisy_says_how_far_it_may_be_off() -> None:
    found = compare(*sides(noisy(10, noise=0.4), noisy(10, noise=0.4, seed=3)))
    assert found.kind == "inconclusive"
    assert found.interval is not None
    assert f"{found.interval.low:+.1%} to {found.interval.high:+.1%}" in found.reason


rounds = st.lists(st.tuples(times, times), min_size=10, max_size=14)
coarse = st.lists(st.tuples(st.integers(1, 4).map(float), st.integers(1, 4).map(float)), min_size=10, max_size=12)


@settings(max_examples=30)
@given(st.one_of(rounds, coarse))
def test_p_is_the_share_of_swaps_that_differ_as_much(pairs: list[tuple[float, float]]) -> None:
    """Against all of them, one by one, with ties too."""
    found = compare(*sides([old for old, _ in pairs], [new for _, new in pairs]))
    values = sorted(value for pair in pairs for value in pair)

    def score(value: float) -> int:
        ties = [number for number, other in enumerate(values, start=1) if other == value]
        return round(100 * math.sqrt(sum(ties) / len(ties)))

    differences = [score(new) - score(old) for old, new in pairs]
    swaps = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(pairs))
    ]
    assert found.p == pytest.approx(sum(swap >= abs(sum(differences)) for swap in swaps) / len(swaps))


@given(rounds)
def test_swapping_the_two_turns_the_verdict_round(pairs: list[tuple[float, float]]) -> None:
    old, new = sides([old for old, _ in pairs], [new for _, new in pairs])
    there, back = compare(old, new), compare(new, old)
    assert there.p == back.p
    assert there.change is not None
    assert back.change is not None
    assert (1 + there.change) * (1 + back.change) == pytest.approx(1)


@given(rounds, st.sampled_from([2.0**-20, 2.0, 1024.0]))
def test_the_unit_does_not_matter(pairs: list[tuple[float, float]], unit: float) -> None:
    old, new = [old for old, _ in pairs], [new for _, new in pairs]
    assert compare(*sides([unit * value for value in old], [unit * value for value in new])) == compare(
        *sides(old, new)
    )


def test_chance_alone_gives_a_small_p_no_more_often_than_it_says() -> None:
    pairs = list(zip(noisy(10, noise=0.3), noisy(10, noise=0.3, seed=5), strict=True))
    small = 0
    for swaps in product((False, True), repeat=len(pairs)):
        turned = [pair[::-1] if swap else pair for pair, swap in zip(pairs, swaps, strict=True)]
        found = compare(*sides([old for old, _ in turned], [new for _, new in turned]))
        small += found.p is not None and found.p < 0.01
    assert 0 < small / 2 ** len(pairs) <= 0.01


def judged(kind: str, p: float | None) -> Verdict:
    return Verdict(kind=kind, change=0.1, interval=None, p=p, pairs=10)  # type: ignore[arg-type]


def test_one_comparison_needs_no_correction() -> None:
    verdict = judged("slower", 0.009)
    assert holm([verdict]) == [verdict]
    assert holm([]) == []


def test_of_many_comparisons_those_that_may_be_chance_are_taken_back() -> None:
    verdicts = [judged("slower", 0.004), judged("faster", 0.001), judged("same", 0.4), judged("slower", 0.006)]
    found = holm(verdicts)
    # 4 × 0.001 < 0.01, 3 × 0.004 is not, and what comes after it falls with it.
    assert [verdict.kind for verdict in found] == ["inconclusive", "faster", "same", "inconclusive"]
    assert found[0].reason == "may be chance among 4 comparisons, more rounds can tell"
    assert found[1:3] == verdicts[1:3]


def test_each_verdict_that_holds_makes_it_easier_for_the_next() -> None:
    # 3 × 0.003, 2 × 0.0049 and 0.006 are below 0.01, although 3 × 0.0049 is not.
    verdicts = [judged("slower", 0.0049), judged("slower", 0.003), judged("faster", 0.006)]
    assert holm(verdicts) == verdicts


def test_what_was_not_tested_does_not_count_as_a_comparison() -> None:
    verdicts = [judged("slower", 0.004), *[judged("inconclusive", None)] * 10]
    assert holm(verdicts) == verdicts


@pytest.mark.parametrize(("count", "kind"), [(5, "slower"), (6, "inconclusive")])
def test_ten_rounds_carry_five_verdicts_at_once(count: int, kind: str) -> None:
    verdict = compare(*sides(noisy(10), noisy(10, 2)))
    assert {each.kind for each in holm([verdict] * count)} == {kind}


@given(
    st.lists(st.tuples(st.sampled_from(["slower", "same", "inconclusive"]), st.none() | st.floats(0, 1)), max_size=9)
)
def test_the_correction_only_takes_back(parts: list[tuple[str, float | None]]) -> None:
    verdicts = [judged(kind, p) for kind, p in parts]
    for before, after in zip(verdicts, holm(verdicts), strict=True):
        assert after == before or (before.kind, after.kind) == ("slower", "inconclusive")
        assert (after.p, after.change) == (before.p, before.change)


def test_the_noise_floor_is_the_size_that_few_changes_exceed() -> None:
    assert noise_floor([0.01 * n * (-1) ** n for n in range(1, 21)]) == pytest.approx(0.19)
    assert noise_floor([-0.07]) == 0.07


few = st.lists(times, max_size=12)


def steady(count: int, factor: float = 1.0) -> list[float]:
    return [factor * (100 + n / 10) for n in range(count)]


def test_a_clear_slowdown_is_suspected_and_no_more() -> None:
    found = against_history(steady(10), steady(10, 1.2))
    assert (found.kind, found.suspected, found.pairs) == ("inconclusive", True, 0)
    assert found.change == pytest.approx(0.2)
    assert found.reason == "suspected 1.20 times as slow, but not measured side by side"


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0, 1.05, 1.09])
def test_less_than_a_tenth_slower_is_not_suspected(factor: float) -> None:
    found = against_history(steady(10), steady(10, factor))
    assert not found.suspected
    assert found.reason == "not measured side by side"


def test_a_slowdown_that_may_be_chance_is_not_suspected() -> None:
    found = against_history(steady(10), [90.0, 95, 98, 99, 125, 130, 132, 140, 150, 160])
    assert found.change is not None
    assert found.change > 0.1
    assert not found.suspected


def test_six_against_six_are_too_few() -> None:
    found = against_history(steady(6), steady(6, 3))
    assert not found.suspected
    assert found.reason == "not measured side by side, and too few processes for a suspicion"
    assert against_history(steady(6), steady(7, 3)).suspected


@given(few, few)
def test_next_to_an_older_result_there_is_never_a_verdict(old: list[float], new: list[float]) -> None:
    found = against_history(old, new)
    assert found.kind == "inconclusive"
    assert found.reason
    assert found.interval is None
