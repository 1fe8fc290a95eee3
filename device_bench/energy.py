"""Joules, by a counter that the machine has; nothing is estimated.

Only what counts energy is a source. What tells the power of a moment alone (Jetson's `VDD_IN`, `pmic_read_adc` of a
Raspberry Pi 5) is none: reading it often enough to integrate takes energy itself, and misses what lies between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final, TypeVar

from ..models.errors import DeviceFailed, Unsupported
from .conditions import ROOT, integer, text

if TYPE_CHECKING:
    from .record import Energy

Fed = TypeVar("Fed")

REPETITIONS: Final = 5
# RAPL is updated about every millisecond: a share of 0.0005 in two seconds.
REPETITION_S: Final = 2.0
IDLE_S: Final = 5.0
PILOT_RUNS: Final = 5
MICRO: Final = 1e-6


@dataclass(slots=True, kw_only=True)
class _Counter:
    """A RAPL zone's microjoules since it was first read; it may wrap around at `range_uj` once between readings."""

    file: Path
    range_uj: int
    last_uj: int | None = None
    total_uj: int = 0

    def read_uj(self) -> int:
        now_uj = integer(self.file)
        if now_uj is None:
            raise DeviceFailed(f"{self.file} can no longer be read")
        if self.last_uj is not None:
            passed = now_uj - self.last_uj
            self.total_uj += passed if passed >= 0 else passed + self.range_uj
        self.last_uj = now_uj
        return self.total_uj


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What counts energy, by the `name` that goes with every figure: `RAPL package-0` is one processor with its caches.

    Several processors' counters are one source, their sum.
    """

    name: str
    counters: Sequence[_Counter] = field(repr=False)

    def joules(self) -> float:
        """Joules since the first call; raises `DeviceFailed` when a counter cannot be read."""
        return sum(counter.read_uj() for counter in self.counters) * MICRO


def sources(root: Path = ROOT) -> list[Source]:
    """What can be read on this machine, the processors first; `root` is where `sys` is."""
    zones: dict[str, list[tuple[str, _Counter]]] = {"package": [], "psys": []}
    # Zones within a zone, such as intel-rapl:0:0, are part of what it counts.
    for folder in sorted(root.glob("sys/class/powercap/intel-rapl:[0-9]*")):
        name, range_uj = text(folder / "name") or "", integer(folder / "max_energy_range_uj")
        kind = name.partition("-")[0]
        within = folder.name.count(":") > 1
        if kind in zones and not within and range_uj and integer(folder / "energy_uj") is not None:
            zones[kind].append((name, _Counter(file=folder / "energy_uj", range_uj=range_uj)))
    return [
        Source(
            name=f"RAPL {' + '.join(name for name, _ in found)}",
            counters=tuple(counter for _, counter in found),
        )
        for found in zones.values()
        if found
    ]


def source(root: Path = ROOT) -> Source:
    """The first of `sources`; raises `Unsupported` where there is none, saying what would make one."""
    found = sources(root)
    if found:
        return found[0]
    locked = sorted(root.glob("sys/class/powercap/intel-rapl:[0-9]*/energy_uj"))
    if locked:
        raise Unsupported(f"energy cannot be measured: {locked[0]} is not readable", "only root may read it: use sudo")
    raise Unsupported(
        "energy cannot be measured: this machine has no counter of it", "RAPL is one: PCs with Linux that are no VM"
    )


def require(address: str) -> None:
    """Raise what `source` would for this machine, before anything is measured; others tell once a process is there."""
    if address == "local":
        source()


def measured(
    run: Callable[[Fed], object],
    feeds: Fed,
    source: Source,
    *,
    repetitions: int = REPETITIONS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Energy:
    """Idle power first, over 5 s; then the joules of each repetition, of as many runs as take about 2 s.

    `run(feeds)` must be warm. Raises `Unsupported` for a counter that stands still.
    """
    from .record import Energy

    before, start = source.joules(), clock()
    sleep(IDLE_S)
    idle_watts = (source.joules() - before) / (clock() - start)
    inferences = _inferences(run, feeds, clock=clock)
    joules = []
    for _ in range(repetitions):
        before = source.joules()
        for _ in range(inferences):
            run(feeds)
        joules.append(source.joules() - before)
    if min(joules) == 0:
        raise Unsupported(f"energy cannot be measured: {source.name} does not count", "a VM may show a counter like it")
    return Energy(source=source.name, inferences=inferences, joules=tuple(joules), idle_watts=idle_watts)


def _inferences(run: Callable[[Fed], object], feeds: Fed, *, clock: Callable[[], float]) -> int:
    taken = []
    for _ in range(PILOT_RUNS):
        start = clock()
        run(feeds)
        taken.append(clock() - start)
    return max(1, round(REPETITION_S / max(median(taken), MICRO)))
