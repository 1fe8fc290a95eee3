"""How a configuration is measured: efforts, rounds, warm-up and when to stop. Pure: the clock is handed in.

The unit of replication is a fresh process, since processes differ more than calls do (Kalibera & Jones,
*Rigorous Benchmarking in Reasonable Time*, ISMM 2013). All configurations of a device take turns in rounds of
random order, so that a machine that slows down slows all of them (Abedi & Brecht, *Conducting Repeatable
Experiments in Highly Variable Cloud Computing Environments*, ICPE 2017).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from types import MappingProxyType
from typing import Final, TypeVar

Fed = TypeVar("Fed")
Clock = Callable[[], int]
"""Nanoseconds of a monotonic clock."""

SAMPLE_NS: Final = 1_000_000
WARM_UP_NS: Final = 200_000_000
WARM_UP_CALLS: Final = 3
WARM_UP_BLOCK_NS: Final = 50_000_000
WARM_UP_BLOCKS: Final = 3
WARM_UP_AGREEMENT: Final = 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long to measure: `processes` per configuration, and per process the nanoseconds and samples to reach.

    A process stops at `cap_ns` however few samples it has, and warms up for no more than `warm_up_cap_ns`.
    """

    name: str
    processes: int
    budget_ns: int
    min_samples: int
    cap_ns: int
    warm_up_cap_ns: int


def _effort(name: str, *, processes: int, budget_s: float, samples: int, cap_s: float, warm_up_s: float) -> Effort:
    return Effort(
        name=name,
        processes=processes,
        budget_ns=round(budget_s * 1e9),
        min_samples=samples,
        cap_ns=round(cap_s * 1e9),
        warm_up_cap_ns=round(warm_up_s * 1e9),
    )


# Six is the fewest processes for which an exact 95 % interval of the median exists: see statistics.py.
EFFORTS: Final[Mapping[str, Effort]] = MappingProxyType(
    {
        effort.name: effort
        for effort in (
            _effort("quick", processes=6, budget_s=0.5, samples=20, cap_s=3, warm_up_s=1),
            _effort("default", processes=10, budget_s=1, samples=67, cap_s=18, warm_up_s=8),
            _effort("rigorous", processes=30, budget_s=2, samples=100, cap_s=30, warm_up_s=8),
        )
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """Nanoseconds of every call, and whether they had settled when it ended."""

    calls_ns: list[int]
    converged: bool


def rounds(configurations: int, *, count: int, seed: int) -> list[list[int]]:
    """`count` rounds, each the numbers 0 … configurations - 1 in a random order of its own."""
    rng = random.Random(seed)
    return [rng.sample(range(configurations), configurations) for _ in range(count)]


def warm_up(run: Callable[[Fed], object], feeds: Fed, *, clock: Clock, cap_ns: int) -> WarmUp:
    """Call `run(feeds)` until it settles: three calls, 0.2 s, and the medians of the last three blocks within 5 %.

    A block is 50 ms, or one call that takes longer. Gives up at `cap_ns`.
    """
    calls: list[int] = []
    medians: list[float] = []
    begin = clock()
    while True:
        first = len(calls)
        started = clock()
        while True:
            start = clock()
            run(feeds)
            stop = clock()
            calls.append(stop - start)
            if stop - started >= WARM_UP_BLOCK_NS:
                break
        medians.append(median(calls[first:]))
        enough = stop - begin >= WARM_UP_NS and len(calls) >= WARM_UP_CALLS
        if enough and _settled(medians[-WARM_UP_BLOCKS:]):
            return WarmUp(calls_ns=calls, converged=True)
        if stop - begin >= cap_ns:
            return WarmUp(calls_ns=calls, converged=False)


def block_size(call_ns: float) -> int:
    """How many calls make a sample of a millisecond or more, the finest that a clock read is negligible in."""
    return max(1, -(-SAMPLE_NS // max(1, int(call_ns))))


def sample(run: Callable[[Fed], object], feeds: Fed, *, block: int, effort: Effort, clock: Clock) -> list[int]:
    """Nanoseconds of each block of `block` calls, until the effort's budget and samples are reached, or its cap.

    The feeds come apart from what runs them because any wrapper would be timed too: half a percent at 30 µs.
    """
    samples: list[int] = []
    repeats = range(block)
    begin = clock()
    while True:
        start = clock()
        for _ in repeats:
            run(feeds)
        stop = clock()
        samples.append(stop - start)
        spent = stop - begin
        if spent >= effort.cap_ns or (spent >= effort.budget_ns and len(samples) >= effort.min_samples):
            return samples


def _settled(medians: list[float]) -> bool:
    return len(medians) == WARM_UP_BLOCKS and max(medians) <= WARM_UP_AGREEMENT * min(medians)
