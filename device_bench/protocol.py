"""How a process measures: how long, warm-up, samples. Pure: the clocks are handed in. Turns are in schedule.py.

The unit of replication is a fresh process, since processes differ more than calls do (Kalibera & Jones,
*Rigorous Benchmarking in Reasonable Time*, ISMM 2013).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import median
from types import MappingProxyType
from typing import Final, TypeVar

Fed = TypeVar("Fed")
Clock = Callable[[], int]
"""Nanoseconds of a monotonic clock."""

SECOND_NS: Final = 1_000_000_000
SAMPLE_NS: Final = 1_000_000
WARM_UP_NS: Final = 200_000_000
WARM_UP_CALLS: Final = 3
WARM_UP_BLOCK_NS: Final = 50_000_000
WARM_UP_BLOCKS: Final = 3
WARM_UP_AGREEMENT: Final = 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long to measure: at least `processes` a configuration, and per process the nanoseconds and samples to reach.

    A process stops at `cap_ns` however few samples it has, and warms up for no more than `warm_up_cap_ns`. More
    processes follow, up to `most_processes` or until they took `cap_s` in all, while the 95 % interval of the
    median reaches further than `half_width`, a share of it, to a side.
    """

    name: str
    processes: int
    most_processes: int
    half_width: float
    cap_s: float
    budget_ns: int
    min_samples: int
    cap_ns: int
    warm_up_cap_ns: int


# Six is the fewest processes for which an exact 95 % interval of the median exists: see statistics.py.
QUICK: Final = Effort(
    name="quick",
    processes=3,
    most_processes=6,
    half_width=0.05,
    cap_s=60,
    budget_ns=SECOND_NS // 2,
    min_samples=20,
    cap_ns=3 * SECOND_NS,
    warm_up_cap_ns=SECOND_NS,
)
# For a verdict on two: as many rounds as find a difference of 10 % nine times in ten (docs/verdicts.md).
PAIRED: Final = replace(QUICK, name="paired", processes=20, most_processes=20, half_width=1.0, cap_s=600)
EFFORTS: Final[Mapping[str, Effort]] = MappingProxyType(
    {
        "quick": QUICK,
        "paired": PAIRED,
        "default": Effort(
            name="default",
            processes=10,
            most_processes=40,
            half_width=0.02,
            cap_s=180,
            budget_ns=SECOND_NS,
            min_samples=67,
            cap_ns=18 * SECOND_NS,
            warm_up_cap_ns=8 * SECOND_NS,
        ),
        "rigorous": Effort(
            name="rigorous",
            processes=30,
            most_processes=120,
            half_width=0.01,
            cap_s=900,
            budget_ns=2 * SECOND_NS,
            min_samples=100,
            cap_ns=30 * SECOND_NS,
            warm_up_cap_ns=8 * SECOND_NS,
        ),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """What is read around every sample: wall clock, and the process' CPU time (ns) and involuntary context switches."""

    wall: Clock
    cpu: Clock
    switches: Callable[[], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Of each block of calls: wall nanoseconds, CPU nanoseconds of all threads, and involuntary context switches."""

    wall_ns: list[int]
    cpu_ns: list[int]
    switches: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """Nanoseconds of every call, and whether they had settled when it ended."""

    calls_ns: list[int]
    converged: bool


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


def sample(run: Callable[[Fed], object], feeds: Fed, *, block: int, effort: Effort, meter: Meter) -> Samples:
    """Blocks of `block` calls, until the effort's budget and samples are reached, or its cap.

    The feeds come apart from what runs them because any wrapper would be timed too: half a percent at 30 µs. The slower
    meters are read outside of the wall clock's two readings.
    """
    found = Samples(wall_ns=[], cpu_ns=[], switches=[])
    repeats, clock = range(block), meter.wall
    cpu, switches = meter.cpu(), meter.switches()
    begin = clock()
    while True:
        start = clock()
        for _ in repeats:
            run(feeds)
        stop = clock()
        cpu_before, switches_before = cpu, switches
        cpu, switches = meter.cpu(), meter.switches()
        found.wall_ns.append(stop - start)
        found.cpu_ns.append(cpu - cpu_before)
        found.switches.append(switches - switches_before)
        spent = stop - begin
        if spent >= effort.cap_ns or (spent >= effort.budget_ns and len(found.wall_ns) >= effort.min_samples):
            return found


def sustain(
    run: Callable[[Fed], object], feeds: Fed, *, duration_ns: int, window_ns: int, clock: Clock
) -> Iterator[list[int]]:
    """Nanoseconds of every call under lasting load, a list for each window until `duration_ns` are over."""
    begin = clock()
    while clock() - begin < duration_ns:
        calls: list[int] = []
        opened = clock()
        while not calls or clock() - opened < window_ns:
            start = clock()
            run(feeds)
            calls.append(clock() - start)
        yield calls


def _settled(medians: list[float]) -> bool:
    return len(medians) == WARM_UP_BLOCKS and max(medians) <= WARM_UP_AGREEMENT * min(medians)
