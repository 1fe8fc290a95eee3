"""Which logical CPUs a measurement is bound to, so that the system does not move it from one to another."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

CPUS: Final = Path("/sys/devices/system/cpu")


def bind(threads: int) -> tuple[int, ...] | None:
    """Bind this process, and all threads that it starts from now on, to as many logical CPUs; says to which.

    None where there are fewer, or where the system does not bind: then nothing is changed.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    usable = os.sched_getaffinity(0)
    if threads > len(usable):
        return None
    cores = chosen(usable, threads)
    os.sched_setaffinity(0, cores)
    return cores


def chosen(usable: Iterable[int], count: int, *, root: Path = CPUS) -> tuple[int, ...]:
    """`count` of the logical CPUs `usable`: the fastest, of different cores as long as there are such, the last first.

    The first CPU of a machine is the one that most interrupts go to. `root` is where Linux describes its CPUs.
    """
    companions: dict[str, int] = {}
    ranked = []
    for cpu in sorted(usable, reverse=True):
        siblings = _text(root / f"cpu{cpu}/topology/thread_siblings_list") or str(cpu)
        companions[siblings] = companions.get(siblings, 0) + 1
        ranked.append((-_number(root / f"cpu{cpu}/cpufreq/cpuinfo_max_freq"), companions[siblings], -cpu))
    return tuple(sorted(-place for _, _, place in sorted(ranked)[:count]))


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _text(path)
    return int(text) if text.isdecimal() else 0
