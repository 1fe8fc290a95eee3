"""What the raw nanoseconds say. Pure: numbers in, numbers out.

Samples of one process are never taken for independent: each process counts once, by its median. Nor are processes
that ran one after the other: where they resemble their neighbours, the interval is widened.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from statistics import NormalDist, fmean, median, stdev
from typing import Final

CONFIDENCE: Final = 0.95
EARLY_STOPPING_RISK: Final = 0.01
OUTLIER_MADS: Final = 5 * 1.4826
MAX_CORRELATION: Final = 0.9
FEWEST_ALIKE: Final = 10
DRIFT_P: Final = 0.01
DRIFT_CHANGE: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Two of the values, with the probability that the true median lies between them."""

    low: float
    high: float
    coverage: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Median over processes of each one's median, nanoseconds per inference, and its interval if there is one.

    The interval's coverage is below 95 % where the processes were too few for how much they resembled each other.
    """

    median_ns: float
    interval_ns: Interval | None
    processes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentile:
    """The order statistic of that share, and the one that the true percentile exceeds with at most 1 %.

    That 1 % is for `samples` independent ones; samples of a disturbed machine come in clusters, and then it is more.
    """

    value: float
    upper: float
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How all samples scatter, nanoseconds per inference, and how much processes differ.

    `mad_ns` is the median distance from the median, unscaled; `outliers` are farther from it than 5 × 1.4826 of
    that, and are part of every figure. `variation` is standard deviation over mean of the processes' medians, None
    for a single process.
    """

    min_ns: float
    mean_ns: float
    mad_ns: float
    variation: float | None
    samples: int
    outliers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Whether processes became slower or faster as the session went on.

    `change` is what the trend makes of the whole session (+0.10: 10 % slower at its end); `p` is of Kendall's rank
    correlation with time; `autocorrelation` is how much each process resembles the one before, by rank.
    """

    change: float
    p: float
    autocorrelation: float

    @property
    def significant(self) -> bool:
        """Whether the trend is neither chance nor small."""
        return self.p < DRIFT_P and abs(self.change) > DRIFT_CHANGE


def latency(processes: Sequence[Sequence[float]]) -> Latency | None:
    """The headline of nanoseconds per inference, by process in the order they ran; None if nothing was measured."""
    medians = [median(samples) for samples in processes if samples]
    if not medians:
        return None
    return Latency(median_ns=median(medians), interval_ns=series_interval(medians), processes=len(medians))


def median_interval(values: Sequence[float]) -> Interval | None:
    """The exact interval for the median of what `values` are drawn from; at least 95 %, whatever the distribution.

    With n independent values in order, the k-th smallest and the k-th largest enclose the median with probability
    1 - 2 P(Binomial(n, 1/2) < k); k is the largest that keeps it at 95 %. Below six values there is none: five
    enclose it with 1 - 2/2⁵ = 93.75 %. David & Nagaraja, *Order Statistics*, 3rd ed., §7.1; Hahn & Meeker,
    *Statistical Intervals*, §5.2.
    """
    ordered = sorted(values)
    rank, coverage = _rank(len(ordered))
    return Interval(low=ordered[rank - 1], high=ordered[-rank], coverage=coverage) if rank else None


def series_interval(values: Sequence[float]) -> Interval | None:
    """As `median_interval`, for values in the order of time: wider where each resembles the one before.

    With autocorrelation r, n values tell no more than n (1 - r) / (1 + r) independent ones (Bayley & Hammersley,
    *The "effective" number of independent observations in an autocorrelated time series*, 1946), so the rank's
    distance from the middle is stretched by the root of (1 + r) / (1 - r). The coverage is what the rank that this
    leads to is worth, less than 95 % where even the smallest and the largest value are not far enough. Fewer than ten
    values tell too little of r, and are taken for independent.
    """
    count = len(values)
    rank, coverage = _rank(count)
    correlation = min(_autocorrelation(values), MAX_CORRELATION) if count >= FEWEST_ALIKE else 0.0
    if correlation <= 0:
        return median_interval(values)
    middle = (count + 1) / 2
    wanted = (middle - rank) * math.sqrt((1 + correlation) / (1 - correlation))
    wider = max(1, math.floor(middle - wanted))
    normal = NormalDist()
    deviations = normal.inv_cdf((1 + coverage) / 2) * (middle - wider) / wanted
    ordered = sorted(values)
    return Interval(low=ordered[wider - 1], high=ordered[-wider], coverage=2 * normal.cdf(deviations) - 1)


def throughput(median_ns: float, *, batch: int) -> float:
    """Samples per second, one call after another: batch over median latency."""
    return batch * 1e9 / median_ns


def percentile(samples: Sequence[float], share: float) -> Percentile | None:
    """The percentile `share` (0.99 for p99) of `samples`; None where they are too few to bound it.

    MLPerf's early stopping: with t the most samples that may lie above with P(Binomial(n, 1 - share) ≤ t) ≤ 1 %,
    the (n - t)-th smallest is the upper bound, and t must be 1 or more: p50 takes 11 samples, p90 64, p99 662.
    """
    from scipy.stats import binom

    count = len(samples)
    above = int(binom.ppf(EARLY_STOPPING_RISK, count, 1 - share)) if count else 0
    if binom.cdf(above, count, 1 - share) > EARLY_STOPPING_RISK:
        above -= 1
    if above < 1:
        return None
    ordered = sorted(samples)
    return Percentile(value=ordered[math.ceil(count * share) - 1], upper=ordered[count - above - 1], samples=count)


def spread(processes: Sequence[Sequence[float]]) -> Spread | None:
    """The scatter of nanoseconds per inference, by process; None if nothing was measured."""
    samples = list(chain.from_iterable(processes))
    if not samples:
        return None
    middle = median(samples)
    mad = median(abs(sample - middle) for sample in samples)
    medians = [median(process) for process in processes if process]
    return Spread(
        min_ns=min(samples),
        mean_ns=fmean(samples),
        mad_ns=mad,
        variation=stdev(medians) / fmean(medians) if len(medians) > 1 else None,
        samples=len(samples),
        outliers=sum(abs(sample - middle) > OUTLIER_MADS * mad for sample in samples),
    )


def drift(medians: Sequence[float]) -> Drift:
    """The trend of the processes' medians in the order they ran; none below six, where p cannot be small enough.

    The change is the slope of the logarithms by Theil and Sen, the median of those between any two processes.
    """
    from scipy.stats import kendalltau, theilslopes

    if len(medians) < 6:
        return Drift(change=0.0, p=1.0, autocorrelation=0.0)
    slope = theilslopes([math.log(value) for value in medians]).slope
    p = float(kendalltau(range(len(medians)), medians).pvalue)
    return Drift(
        change=math.expm1(slope * (len(medians) - 1)),
        p=1.0 if math.isnan(p) else p,  # all medians are equal
        autocorrelation=_autocorrelation(medians),
    )


def _rank(count: int) -> tuple[int, float]:
    """Which smallest and largest of `count` values enclose the median, and how surely; 0 if none do at 95 %."""
    rank, coverage = 0, 1.0
    missed = 0.0
    for k in range(1, count // 2 + 1):
        missed += math.comb(count, k - 1) / 2**count
        if 1 - 2 * missed < CONFIDENCE:
            break
        rank, coverage = k, 1 - 2 * missed
    return rank, coverage


def _autocorrelation(values: Sequence[float]) -> float:
    """Lag-1, of the ranks, for six values or more; 0 is to be expected of independent ones.

    The plain estimate is too low for a short series by (1 + 3 r) / n (Marriott & Pope, *Bias in the estimation of
    autocorrelations*, 1954), which is added.
    """
    count = len(values)
    ordered = sorted(values)
    # Twice the mid-rank, less its mean.
    ranks = [bisect_left(ordered, value) + bisect_right(ordered, value) - count for value in values]
    square = sum(rank * rank for rank in ranks)
    if not square:
        return 0.0
    plain = sum(before * after for before, after in pairwise(ranks)) / square
    return (count * plain + 1) / (count - 3)
