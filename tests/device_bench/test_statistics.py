"""The interval covers what it says, whatever is measured, and says nothing where nothing can be said."""

import math
import random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_edge.device_bench.statistics import latency, median_interval, throughput

times = st.floats(min_value=1, max_value=1e12)


def chance_of(count: int, rank: int) -> float:
    """That the rank-th smallest and the rank-th largest of `count` values enclose the median."""
    return math.fsum(math.comb(count, k) / 2**count for k in range(rank, count - rank + 1))


@pytest.mark.parametrize("count", range(6))
def test_fewer_than_six_processes_have_no_interval(count: int) -> None:
    assert median_interval([1.0] * count) is None


@pytest.mark.parametrize("count", [6, 7, 9, 10, 20, 30, 57])
def test_the_interval_is_the_narrowest_that_keeps_95_percent(count: int) -> None:
    interval = median_interval(list(range(1, count + 1)))
    assert interval is not None
    rank = int(interval.low)
    assert interval.high == count + 1 - rank
    assert interval.coverage == pytest.approx(chance_of(count, rank))
    assert chance_of(count, rank + 1) < 0.95 <= interval.coverage


def test_ten_processes_give_the_second_and_the_ninth() -> None:
    interval = median_interval([10.0, 1, 9, 2, 8, 3, 7, 4, 6, 5])
    assert interval is not None
    assert (interval.low, interval.high) == (2, 9)
    assert interval.coverage == 1 - 2 * 11 / 1024


@pytest.mark.parametrize("count", [6, 10, 30])
def test_the_true_median_is_inside_as_often_as_promised_for_a_skewed_distribution(count: int) -> None:
    rng = random.Random(count)
    repetitions, inside, promised = 4000, 0, 0.0
    for _ in range(repetitions):
        interval = median_interval([rng.lognormvariate(0, 1.5) for _ in range(count)])
        assert interval is not None
        inside += interval.low <= 1 <= interval.high
        promised = interval.coverage
    # Three standard errors of a share of 4000.
    assert inside / repetitions == pytest.approx(promised, abs=3 * math.sqrt(promised * (1 - promised) / repetitions))


@given(st.lists(times, min_size=6, max_size=40), st.randoms(use_true_random=False))
def test_the_order_of_the_processes_does_not_matter(values: list[float], rng: random.Random) -> None:
    shuffled = values[:]
    rng.shuffle(shuffled)
    assert median_interval(shuffled) == median_interval(values)


@given(st.lists(times, min_size=6, max_size=40))
def test_the_interval_is_made_of_values_and_encloses_the_median(values: list[float]) -> None:
    interval = median_interval(values)
    assert interval is not None
    assert {interval.low, interval.high} <= set(values)
    assert interval.low <= median(values) <= interval.high


@given(st.lists(st.lists(times, max_size=9), max_size=9))
def test_each_process_counts_once_however_many_samples_it_has(processes: list[list[float]]) -> None:
    found = latency(processes)
    medians = [median(samples) for samples in processes if samples]
    if not medians:
        assert found is None
    else:
        assert found is not None
        assert found.median_ns == median(medians)
        assert found == latency([samples * 3 for samples in processes])
        assert found.processes == len(medians)


def test_one_wild_process_of_ten_does_not_move_the_interval() -> None:
    calm = [[100.0 + n] for n in range(10)]
    wild = [*calm[:9], [1e9]]
    assert latency(calm) is not None
    assert getattr(latency(wild), "interval_ns", None) == getattr(latency(calm), "interval_ns", 0)


def test_throughput_is_samples_per_second() -> None:
    assert throughput(2e6, batch=16) == 8000
