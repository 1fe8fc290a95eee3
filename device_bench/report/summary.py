"""Each result in figures, all computed from its raw record. Nothing here measures or prints."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from statistics import median
from typing import Any, Final

from ...models.errors import MissingDependency, UnknownName
from .. import validity
from ..record import Placement, Timing
from ..result import Result
from ..session import RUNTIMES, Runtime
from ..statistics import latency, percentile, spread, throughput
from ..sustained import slowdown, throttle_onset_s
from ..validity import Reason
from .accuracy_file import Accuracies

MIB: Final = 2**20
PERCENTILES: Final = {"p90": 0.90, "p95": 0.95, "p99": 0.99, "p999": 0.999}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One result in numbers; None is what was not measured or does not apply.

    Latency, load and first inference are medians over processes; the interval is that of the median, None
    below six processes, and `latency_coverage` what it is worth: at least 0.95 unless neighbours in time were alike.
    Minimum to outliers are of all samples, each the mean of up to `block` calls; a percentile is None where there are
    too few for it, and `…_upper_ms` what it hardly exceeds. `process_cv` is deviation over mean of the processes'
    medians. `disturbed` is the share of samples that lost their CPU, `undisturbed_ms` the latency without them; None
    where the record does not tell.

    `memory_mib` is what opening and running the model added to the peak of its process, `process_memory_mib` that
    whole peak. `target` is `original` for the model that artifacts were made from. `engine` is the runtime's label
    with its version; `delegate_nodes` of the file's `nodes` went to `delegate`. `energy_mj` is of one call. Under
    lasting load, `sustained_ratio` is the last minute's latency over the first's, and from `throttled_after_s` on it
    was 5 % longer than in the first. `top1` and its ends are shares, 0…1.
    `fastest` marks each row whose interval overlaps that of the fastest of its session and batch.
    """

    model: str
    weights: str
    target: str
    precision: str
    runtime: str
    engine: str
    delegate: str | None
    delegate_nodes: int | None
    delegate_partitions: int | None
    nodes: int | None
    threads: int
    batch: int
    parity_passed: bool | None
    parity_cosine: float | None
    parity_top1: float | None
    top1: float | None
    top1_low: float | None
    top1_high: float | None
    top1_images: int | None
    latency_ms: float | None
    latency_low_ms: float | None
    latency_high_ms: float | None
    latency_coverage: float | None
    fastest: bool
    images_per_s: float | None
    load_ms: float | None
    first_ms: float | None
    samples: int
    block: int | None
    min_ms: float | None
    mean_ms: float | None
    mad_ms: float | None
    process_cv: float | None
    p90_ms: float | None
    p90_upper_ms: float | None
    p95_ms: float | None
    p95_upper_ms: float | None
    p99_ms: float | None
    p99_upper_ms: float | None
    p999_ms: float | None
    p999_upper_ms: float | None
    disturbed: float | None
    undisturbed_ms: float | None
    outliers: int | None
    memory_mib: float | None
    process_memory_mib: float | None
    size_mib: float | None
    energy_mj: float | None
    energy_source: str | None
    sustained_ratio: float | None
    throttled_after_s: float | None
    processes: int
    process_medians_ms: tuple[float, ...]
    validity: str
    reasons: tuple[Reason, ...]
    status: str
    reason: str
    session: str
    started: str
    effort: str
    seed: int
    device: str
    model_digest: str
    artifact_digest: str | None
    command: str

    @property
    def ranked(self) -> bool:
        """Whether its latency may be held against others': measured, not invalid, and of a file that is right."""
        measured = self.status == "ok" and self.latency_ms is not None
        return measured and self.validity != "INVALID" and self.parity_passed is not False


def rows(results: Sequence[Result], *, accuracies: Sequence[Accuracies] = ()) -> list[Row]:
    """The numbers of each result, in order; of two accuracies for the same file the later one counts."""
    return _marked([_row(result, accuracies) for result in results])


def package_and_label(result: Result) -> tuple[str, str]:
    """The runtime's package and its label, each with the version that was measured, if it is known."""
    try:
        runtime: Runtime = RUNTIMES.load(result.runtime)
        package, label = (*runtime.requires, result.runtime)[0].replace("_", "-"), runtime.label
    except (UnknownName, MissingDependency):
        # Measured where there are other plug-ins than here.
        package, label = result.runtime, f"{result.runtime} {{version}}"
    version = f" {result.device.versions[package]}" if package in result.device.versions else ""
    return f"{package}{version}", label.replace(" {version}", version)


def _row(result: Result, accuracies: Sequence[Accuracies]) -> Row:
    timings = [trial.timing for trial in sorted(result.trials, key=lambda trial: trial.round)]
    figures = {**_identity(result), **_file(result, accuracies), **_timed(result, timings), **_machine(result)}
    return Row(**figures, fastest=False)


def _identity(result: Result) -> dict[str, Any]:
    judged = validity.judge(result)
    return {
        "model": result.model,
        "weights": result.weights,
        "target": result.target or "original",
        "precision": result.precision,
        "runtime": result.runtime,
        "engine": package_and_label(result)[1],
        "threads": result.threads,
        "batch": result.batch,
        "validity": judged.level,
        "reasons": judged.reasons,
        "status": result.status,
        "reason": result.failure.message if result.failure else "",
        "session": result.session,
        "started": result.started.isoformat(),
        "effort": result.effort,
        "seed": result.seed,
        "device": result.device.device,
        "model_digest": result.model_digest,
        "artifact_digest": result.artifact_digest,
        "command": shlex.join(result.command),
    }


def _file(result: Result, accuracies: Sequence[Accuracies]) -> dict[str, Any]:
    top1 = next((share for each in reversed(accuracies) if (share := each.of(result))), None)
    return {
        "parity_passed": result.parity.passed if result.parity else None,
        "parity_cosine": result.parity.cosine if result.parity else None,
        "parity_top1": result.parity.top1 if result.parity else None,
        "top1": top1.share if top1 else None,
        "top1_low": top1.low if top1 else None,
        "top1_high": top1.high if top1 else None,
        "top1_images": top1.count if top1 else None,
        "size_mib": result.size_bytes / MIB if result.size_bytes is not None else None,
    }


def _timed(result: Result, timings: Sequence[Timing]) -> dict[str, Any]:
    processes = [timing.per_call_ns for timing in timings]
    # What a tool keeps to itself has no minimum, no scatter and no percentiles here.
    told = [timing.per_call_ns for timing in timings if not timing.summary]
    headline, scatter = latency(processes), spread(told)
    interval = headline.interval_ns if headline else None
    calm = [_undisturbed(result, timing) for timing in timings]
    known = all(each is not None for each in calm)
    undisturbed = latency([each for each in calm if each]) if known else None
    return {
        "latency_ms": _ms(headline.median_ns) if headline else None,
        "latency_low_ms": _ms(interval.low) if interval else None,
        "latency_high_ms": _ms(interval.high) if interval else None,
        "latency_coverage": interval.coverage if interval else None,
        "images_per_s": throughput(headline.median_ns, batch=result.batch) if headline else None,
        "load_ms": _ms(median(timing.load_ns for timing in timings)) if timings else None,
        "first_ms": _ms(median(timing.first_ns for timing in timings)) if timings else None,
        "samples": sum(timing.summary.inferences if timing.summary else len(timing.samples_ns) for timing in timings),
        "block": max((timing.block for timing in timings), default=None),
        "min_ms": _ms(scatter.min_ns) if scatter else None,
        "mean_ms": _ms(scatter.mean_ns) if scatter else None,
        "mad_ms": _ms(scatter.mad_ns) if scatter else None,
        "process_cv": scatter.variation if scatter else None,
        "outliers": scatter.outliers if scatter else None,
        "disturbed": 1 - sum(map(len, (each or [] for each in calm))) / scatter.samples if scatter and known else None,
        "undisturbed_ms": _ms(undisturbed.median_ns) if undisturbed else None,
        "processes": len(processes),
        "process_medians_ms": tuple(_ms(median(samples)) for samples in processes),
        **_percentiles(list(chain.from_iterable(told))),
    }


def _undisturbed(result: Result, timing: Timing) -> list[float] | None:
    marks = validity.disturbed(result, timing)
    if marks is None:
        return None
    return [ns for ns, mark in zip(timing.per_call_ns, marks, strict=True) if not mark]


def _percentiles(samples: Sequence[float]) -> dict[str, Any]:
    found = {name: percentile(samples, share) for name, share in PERCENTILES.items()}
    values = {f"{name}_ms": _ms(each.value) if each else None for name, each in found.items()}
    return values | {f"{name}_upper_ms": _ms(each.upper) if each else None for name, each in found.items()}


def _machine(result: Result) -> dict[str, Any]:
    # The same in every process: it follows from the file, the engine and the machine.
    placed: Placement | None = next((one.timing.placement for one in result.trials if one.timing.placement), None)
    energy, sustained = result.energy, result.sustained
    return {
        "delegate": placed.delegate if placed else None,
        "delegate_nodes": placed.nodes_taken if placed else None,
        "delegate_partitions": placed.partitions if placed else None,
        "nodes": placed.nodes if placed else None,
        "memory_mib": result.memory.added_bytes / MIB if result.memory else None,
        "process_memory_mib": result.memory.peak_bytes / MIB if result.memory else None,
        "energy_mj": 1e3 * median(energy.joules) / energy.inferences if energy else None,
        "energy_source": energy.source if energy else None,
        "sustained_ratio": slowdown(sustained) if sustained else None,
        "throttled_after_s": throttle_onset_s(sustained) if sustained else None,
    }


def _marked(found: Sequence[Row]) -> list[Row]:
    """The rows, with the fastest of each session and batch marked, unless there is none to be faster than."""
    rivals: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in found:
        if row.ranked:
            rivals[row.session, row.batch].append(row)
    marked = {id(row) for group in rivals.values() for row in _fastest(group)}
    return [replace(row, fastest=id(row) in marked) for row in found]


def _fastest(group: Sequence[Row]) -> list[Row]:
    """Nobody where the lowest median has no interval, or nobody is told from it; others without stand as points."""
    best = min(group, key=lambda row: row.latency_ms or 0.0)
    if best.latency_high_ms is None:
        return []
    level = [row for row in group if (row.latency_low_ms or row.latency_ms or 0.0) <= best.latency_high_ms]
    return level if len(level) < len(group) else []


def _ms(nanoseconds: float) -> float:
    return nanoseconds / 1e6
