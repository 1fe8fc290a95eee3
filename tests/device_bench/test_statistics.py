"""Intervals and percentiles hold as often as they say, and nothing is said where nothing can be said."""

import math
import random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_edge.device_bench.statistics import (
    drift,
    latency,
    median_interval,
    percentile,
    series_interval,
    spread,
    throughput,
)

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
    calm = [[float(n)] for n in (103, 108, 101, 106, 104, 100, 107, 102, 105, 109)]
    wild = [*calm[:9], [1e9]]
    assert latency(calm) is not None
    assert getattr(latency(wild), "interval_ns", None) == getattr(latency(calm), "interval_ns", 0)


def test_throughput_is_samples_per_second() -> None:
    assert throughput(2e6, batch=16) == 8000


def test_a_series_of_unlike_neighbours_has_the_exact_interval() -> None:
    values = [3.0, 8, 1, 6, 4, 0, 7, 2, 5, 9]
    assert series_interval(values) == median_interval(values)


def test_a_series_of_like_neighbours_has_a_wider_interval() -> None:
    rising = [float(n) for n in range(30)]
    wide, exact = series_interval(rising), median_interval(rising)
    assert wide is not None
    assert exact is not None
    assert wide.low < exact.low < exact.high < wide.high


@pytest.mark.parametrize("seed", range(10))
def test_a_series_interval_is_as_much_wider_as_neighbours_are_alike(seed: int) -> None:
    rng = random.Random(seed)
    levels = [0.0]
    for _ in range(99):
        levels.append(0.5 * levels[-1] + rng.gauss(0, 1))
    # The values are their own ranks, so that the interval is as wide as its ranks are apart, rounded outwards.
    series = [sorted(levels).index(level) + 1 for level in levels]
    wide, exact, alike = series_interval(series), median_interval(series), drift(series).autocorrelation
    assert wide is not None
    assert exact is not None
    assert 0.2 < alike < 0.8
    wanted = (exact.high - exact.low) * math.sqrt((1 + alike) / (1 - alike))
    assert wanted <= wide.high - wide.low < wanted + 2


def test_too_few_processes_that_resemble_each_other_are_said_to_cover_less() -> None:
    rising = series_interval([float(n) for n in range(10)])
    assert rising is not None
    assert (rising.low, rising.high) == (0, 9)
    assert rising.coverage < 0.7


@given(st.lists(times, max_size=40))
def test_a_series_interval_holds_the_exact_one(values: list[float]) -> None:
    wide, exact = series_interval(values), median_interval(values)
    assert (wide is None) == (exact is None)
    if wide is not None and exact is not None:
        assert wide.low <= exact.low <= exact.high <= wide.high
        assert 0 < wide.coverage <= 1


@pytest.mark.parametrize(
    ("share", "least"), [(0.5, 11), (0.9, 64), (0.95, 130), (0.99, 662), (0.999, 6636)], ids=lambda value: f"{value}"
)
def test_a_percentile_takes_as_many_samples_as_in_mlperf(share: float, least: int) -> None:
    assert percentile([1.0] * (least - 1), share) is None
    assert percentile([1.0] * least, share) is not None


def test_the_upper_end_leaves_as_many_above_as_chance_allows() -> None:
    # P(Binomial(1000, 0.1) ≤ 78) = 0.97 %, ≤ 79: 1.3 %.
    found = percentile([float(n) for n in range(1, 1001)], 0.9)
    assert found is not None
    assert (found.value, found.upper, found.samples) == (900, 1000 - 78, 1000)


@pytest.mark.parametrize("count", [64, 100, 750])
def test_the_upper_end_holds_for_independent_samples(count: int) -> None:
    rng = random.Random(count)
    truth = -math.log(0.1)
    found = [percentile([rng.expovariate(1) for _ in range(count)], 0.9) for _ in range(1000)]
    # Three standard errors of a share of 1000.
    assert sum(each.upper >= truth for each in found if each) >= 1000 * (0.99 - 3 * math.sqrt(0.99 * 0.01 / 1000))


@given(st.lists(times, max_size=200), st.floats(0.01, 0.999))
def test_a_percentile_and_its_upper_end_are_samples(samples: list[float], share: float) -> None:
    found = percentile(samples, share)
    if found is not None:
        assert {found.value, found.upper} <= set(samples)
        assert found.value <= found.upper
        assert sum(sample <= found.value for sample in samples) >= share * len(samples)


def test_outliers_are_counted_and_kept() -> None:
    found = spread([[10.0, 11, 12, 13, 14], [10, 11, 12, 13, 1000]])
    assert found is not None
    assert (found.min_ns, found.mad_ns, found.outliers, found.samples) == (10, 1, 1, 10)
    assert found.mean_ns == pytest.approx(1106 / 10)


def test_processes_differ_by_the_deviation_of_their_medians() -> None:
    found = spread([[90.0, 90, 500], [100], [110, 110]])
    assert found is not None
    assert found.variation == pytest.approx(0.1)
    alone = spread([[90.0, 95]])
    assert alone is not None
    assert alone.variation is None
    assert spread([[], []]) is None


def test_a_machine_that_becomes_slower_drifts() -> None:
    rng = random.Random(1)
    slower = [100 * 1.3 ** (n / 19) * rng.uniform(0.98, 1.02) for n in range(20)]
    found = drift(slower)
    assert found.significant
    assert found.change == pytest.approx(0.3, abs=0.05)
    assert drift(slower[::-1]).change == pytest.approx(1 / 1.3 - 1, abs=0.04)
    assert found.autocorrelation > 0.5


def test_a_small_trend_is_no_drift_however_sure() -> None:
    found = drift([100 + n / 10 for n in range(20)])
    assert found.p < 1e-6
    assert not found.significant


@pytest.mark.parametrize("medians", [[], [1.0], [1.0, 2, 3, 4, 5], [7.0] * 20], ids=["none", "one", "five", "equal"])
def test_nothing_is_said_of_a_drift_where_there_is_no_trend(medians: list[float]) -> None:
    found = drift(medians)
    assert (found.change, found.p, found.significant) == (0, 1, False)


@pytest.mark.parametrize("count", [6, 10, 20])
def test_a_machine_that_only_scatters_seldom_seems_to_drift(count: int) -> None:
    rng = random.Random(count)
    found = [drift([rng.lognormvariate(0, 0.1) for _ in range(count)]) for _ in range(500)]
    assert sum(each.significant for each in found) <= 500 * (0.01 + 3 * math.sqrt(0.01 * 0.99 / 500))
    assert math.fsum(each.autocorrelation for each in found) / 500 == pytest.approx(0, abs=0.06)
