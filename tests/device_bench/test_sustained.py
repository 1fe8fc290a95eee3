"""Slowing down and throttling, on made-up traces with a known onset."""

import random
from collections.abc import Sequence

import pytest

from evit_edge.device_bench.record import Sustained
from evit_edge.device_bench.sustained import slowdown, throttle_onset_s


def load(medians_ns: Sequence[float], *, window_s: float = 10) -> Sustained:
    count = len(medians_ns)
    return Sustained(
        window_s=window_s, medians_ns=tuple(medians_ns), calls=(100,) * count, temperatures_c=(None,) * count
    )


def steps(*levels: tuple[float, int], noise: float = 0.0) -> list[float]:
    """Windows of ten seconds at each of the levels, with so much noise on each."""
    rng = random.Random(0)
    return [level * (1 + rng.uniform(-noise, noise)) for level, count in levels for _ in range(count)]


def test_a_steady_machine_does_not_slow_down() -> None:
    steady = load(steps((1e6, 60), noise=0.02))
    assert slowdown(steady) == pytest.approx(1, abs=0.02)
    assert throttle_onset_s(steady) is None


@pytest.mark.parametrize("onset", [6, 20, 57])
def test_throttling_is_found_where_it_begins(onset: int) -> None:
    throttled = load(steps((1e6, onset), (1.3e6, 60 - onset), noise=0.02))
    assert throttle_onset_s(throttled) == onset * 10
    if onset <= 54:
        assert slowdown(throttled) == pytest.approx(1.3, rel=0.03)


def test_windows_of_another_length_give_the_same_seconds() -> None:
    throttled = load(steps((1e6, 100), (1.3e6, 200)), window_s=2.5)
    assert throttle_onset_s(throttled) == 250
    assert slowdown(throttled) == pytest.approx(1.3)


@pytest.mark.parametrize("slow", [1, 2])
def test_two_slow_windows_are_no_throttling(slow: int) -> None:
    brief = steps((1e6, 30), (2e6, slow), (1e6, 28))
    assert throttle_onset_s(load(brief)) is None
    assert throttle_onset_s(load(steps((1e6, 30), (2e6, slow)))) is None


@pytest.mark.parametrize(("slower", "onset"), [(1.049, None), (1.051, 300.0)])
def test_five_per_cent_is_the_limit(slower: float, onset: float | None) -> None:
    assert throttle_onset_s(load(steps((1e6, 30), (slower * 1e6, 30)))) == onset


def test_the_last_minute_counts_and_not_what_lies_between() -> None:
    assert slowdown(load(steps((1e6, 6), (3e6, 48), (1.1e6, 6)))) == pytest.approx(1.1)


@pytest.mark.parametrize(("windows", "known"), [(11, False), (12, True)])
def test_less_than_two_minutes_have_no_first_and_last(windows: int, known: bool) -> None:
    assert (slowdown(load(steps((1e6, windows)))) is not None) == known


def test_a_window_longer_than_a_minute_is_the_minute() -> None:
    assert slowdown(load([1e6, 1.2e6], window_s=90)) == pytest.approx(1.2)
