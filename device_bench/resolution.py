"""What differences this machine can tell: a fixed piece of work, timed in fresh processes as trials time a model."""

from __future__ import annotations

import hashlib
import math
import os
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist, mean, median, stdev
from typing import Any, Final, Literal

from pydantic import AwareDatetime, Field, ValidationError

from ..converters import child
from ..models.download import cache_folder
from ..models.errors import FileProblem
from . import protocol, verdict
from .device import DeviceInfo
from .record import Record
from .statistics import median_interval

PROCESSES: Final = 20
COMPARISONS: Final = 1000
KEPT: Final = timedelta(days=7)
COUNTS: Final = (6, 10, 20, 30)
WANTED: Final = (0.01, 0.02, 0.05)
MOST_PROCESSES: Final = 200
CONFIDENCE: Final = 0.95
TIMEOUT_S: Final = 120.0
# Multiplying two such float32 matrices takes about 1 ms on one core of a server of 2023, and stays in its caches.
SIZE: Final = 384


class Resolution(Record):
    """What this machine can tell, by fresh processes that ran one after another; all shares of the latency.

    `variation` is the standard deviation of the processes' medians, and `variation_interval` the 95 % one that so few
    of them leave open. `half_widths` are those to be expected of the median's interval, by the number of processes;
    `processes_for` is the number that it takes for a half-width, null where it is over 200. `noise_floor` is what 95 %
    of comparisons of this work with itself, over ten rounds, do not exceed. `disturbed` is the share of samples that
    lost their CPU for a time.
    """

    schema_: Literal[1] = Field(default=1, alias="schema")
    measured: AwareDatetime
    medians_ns: tuple[float, ...]
    disturbed: float
    variation: float
    variation_interval: tuple[float, float]
    half_widths: dict[int, float]
    processes_for: dict[float, int | None]
    noise_floor: float


def measure(info: DeviceInfo, *, on_process: Callable[[int], None] = lambda done: None) -> Resolution:
    """Time the work in 20 fresh processes, about 20 s in all, and keep the answer for this machine.

    Raises `FileProblem` if the cache cannot be written.
    """
    found = []
    for number in range(PROCESSES):
        on_process(number)
        found.append(child.call("evit_edge.device_bench.resolution", {}, timeout_s=TIMEOUT_S))
    resolution = resolved(
        [each["median_ns"] for each in found],
        disturbed=mean(each["disturbed"] for each in found),
        measured=datetime.now(UTC),
    )
    _keep(_file(info), resolution)
    return resolution


def resolved(medians_ns: Sequence[float], *, disturbed: float, measured: datetime) -> Resolution:
    """What the medians of processes, in the order they ran, say."""
    from scipy.stats import chi2

    logarithms = [math.log(value) for value in medians_ns]
    deviation, freedom = stdev(logarithms), len(logarithms) - 1
    tail = (1 - CONFIDENCE) / 2
    low, high = (math.sqrt(freedom / chi2.ppf(share, freedom)) for share in (1 - tail, tail))
    return Resolution(
        measured=measured,
        medians_ns=tuple(medians_ns),
        disturbed=disturbed,
        variation=deviation,
        variation_interval=(deviation * low, deviation * high),
        half_widths={count: half_width(deviation, count) for count in COUNTS},
        processes_for={wanted: _processes_for(deviation, wanted) for wanted in WANTED},
        noise_floor=verdict.noise_floor(_changes(logarithms)),
    )


def half_width(deviation: float, processes: int) -> float:
    """What half the width of the exact 95 % interval of a median is to be, for medians that scatter normally.

    By Blom's approximation of normal order statistics (*Statistical Estimates and Transformed Beta-Variables*, 1958).
    """
    interval = median_interval(range(processes))
    if interval is None:
        return math.inf
    rank = interval.low + 1
    return deviation * -NormalDist().inv_cdf((rank - 0.375) / (processes + 0.25))


def noise_floor(info: DeviceInfo) -> float | None:
    """The noise floor that was measured on this machine within the last seven days, None if there is none."""
    try:
        known = Resolution.model_validate_json(_file(info).read_bytes())
    except (OSError, ValidationError):
        return None
    return known.noise_floor if timedelta(0) <= datetime.now(UTC) - known.measured <= KEPT else None


def _changes(logarithms: Sequence[float]) -> list[float]:
    """What comparisons of the work with itself find: medians of ten differences drawn from those of neighbours in time.

    Neighbours, because what is compared takes turns. Of two that do the same either may be called the candidate.
    """
    steps = [step for old, new in pairwise(logarithms) for step in (new - old, old - new)]
    rng = random.Random(0)
    return [math.expm1(median(rng.choices(steps, k=verdict.PAIRS))) for _ in range(COMPARISONS)]


def _processes_for(deviation: float, wanted: float) -> int | None:
    return next((count for count in range(6, MOST_PROCESSES + 1) if half_width(deviation, count) <= wanted), None)


def _file(info: DeviceInfo) -> Path:
    machine = (info.device, info.cpu, info.logical_cpus, info.memory_bytes, info.kernel, info.governor)
    return cache_folder() / "resolution" / f"{hashlib.sha256(repr(machine).encode()).hexdigest()[:16]}.json"


def _keep(file: Path, resolution: Resolution) -> None:
    part = file.with_suffix(f".{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(resolution.model_dump_json(by_alias=True) + "\n")
        part.replace(file)
    except OSError as error:
        raise FileProblem(f"{file} cannot be written: {error.strerror or error}", "set EVIT_EDGE_CACHE") from error


def _timed(job: dict[str, Any]) -> dict[str, float]:
    """The child's side: what the work takes, timed as a trial of the effort `quick` does."""
    from . import cores, validity
    from .trial import meter

    # Both before the matrices are there: the library counts its threads when it is loaded.
    cores.bind(1)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    import numpy as np

    left, right = np.random.default_rng(0).standard_normal((2, SIZE, SIZE), np.float32)
    effort, clocks = protocol.EFFORTS["quick"], meter()
    warm = protocol.warm_up(left.dot, right, clock=clocks.wall, cap_ns=effort.warm_up_cap_ns)
    block = protocol.block_size(median(warm.calls_ns))
    samples = protocol.sample(left.dot, right, block=block, effort=effort, meter=clocks)
    lost = validity.lost_cpu(samples.wall_ns, cpu_ns=samples.cpu_ns, switches=samples.switches) or ()
    return {"median_ns": median(samples.wall_ns) / block, "disturbed": mean(lost)}


if __name__ == "__main__":
    child.serve(_timed)
