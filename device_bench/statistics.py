"""What the raw nanoseconds say. Pure: numbers in, numbers out.

Samples of one process are never taken for independent: each process counts once, by its median.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Two of the values, with the probability that the true median lies between them."""

    low: float
    high: float
    coverage: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Median over processes of each one's median, nanoseconds per inference, and its interval if there is one."""

    median_ns: float
    interval_ns: Interval | None
    processes: int


def latency(processes: Sequence[Sequence[float]]) -> Latency | None:
    """The headline of nanoseconds per inference, by process; None if nothing was measured."""
    medians = [median(samples) for samples in processes if samples]
    if not medians:
        return None
    return Latency(median_ns=median(medians), interval_ns=median_interval(medians), processes=len(medians))


def median_interval(values: Sequence[float]) -> Interval | None:
    """The exact interval for the median of what `values` are drawn from; at least 95 %, whatever the distribution.

    With n independent values in order, the k-th smallest and the k-th largest enclose the median with probability
    1 - 2 P(Binomial(n, 1/2) < k); k is the largest that keeps it at 95 %. Below six values there is none: five
    enclose it with 1 - 2/2⁵ = 93.75 %. David & Nagaraja, *Order Statistics*, 3rd ed., §7.1; Hahn & Meeker,
    *Statistical Intervals*, §5.2.
    """
    ordered = sorted(values)
    count = len(ordered)
    rank, coverage = 0, 1.0
    missed = 0.0
    for k in range(1, count // 2 + 1):
        missed += math.comb(count, k - 1) / 2**count
        if 1 - 2 * missed < CONFIDENCE:
            break
        rank, coverage = k, 1 - 2 * missed
    return Interval(low=ordered[rank - 1], high=ordered[-rank], coverage=coverage) if rank else None


def throughput(median_ns: float, *, batch: int) -> float:
    """Samples per second, one call after another: batch over median latency."""
    return batch * 1e9 / median_ns
