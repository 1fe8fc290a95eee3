"""Results in, a table out: as rows of text, Markdown, CSV or JSON. Nothing here measures."""

from __future__ import annotations

import csv as csv_format
import io
import json as json_format
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from statistics import median
from typing import Final

from ..converters.parity import at_least, percent
from ..models.errors import MissingDependency, UnknownName
from .result import Placement, Result
from .session import RUNTIMES, Runtime
from .statistics import latency, throughput

MIB: Final = 2**20
GIB: Final = 2**30
NOT_APPLICABLE: Final = "—"
SHAREABLE: Final = ("model", "weights", "precision", "threads", "batch", "processes", "status")
MEANING: Final = (
    "latency: median over processes [exact 95 % interval of it]; img/s: batch / latency; "
    "memory: what the model added to the peak (peak of the whole process)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One result in numbers; None is what was not measured or does not apply.

    Latency, load and first inference are medians over processes; the interval is the exact 95 % one of the
    median, None below six processes. `memory_mib` is what opening and running the model added to the peak of its
    process, `process_memory_mib` that whole peak. `target` is `original` for the model that artifacts were made from.
    `engine` is the runtime's label with its version; `delegate_nodes` of the file's `nodes` went to `delegate`.
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
    latency_ms: float | None
    latency_low_ms: float | None
    latency_high_ms: float | None
    images_per_s: float | None
    load_ms: float | None
    first_ms: float | None
    memory_mib: float | None
    process_memory_mib: float | None
    size_mib: float | None
    processes: int
    status: str
    reason: str


def rows(results: Sequence[Result]) -> list[Row]:
    """The numbers of each result, in order."""
    return [_row(result) for result in results]


def columns() -> list[str]:
    """The headings of `cells`, with units."""
    return [
        "model",
        "weights",
        "target",
        "precision",
        "runtime",
        "threads",
        "batch",
        "parity (cosine, top-1)",
        "latency ms [95 %]",
        "img/s",
        "load ms",
        "first ms",
        "peak memory MiB (process)",
        "size MiB",
        "processes",
        "status",
    ]


def cells(row: Row) -> list[str]:
    """What a person reads of a row, under `columns`."""
    return [
        row.model,
        row.weights,
        row.target,
        row.precision,
        _engine_and_delegate(row),
        str(row.threads),
        str(row.batch),
        _parity(row),
        _latency(row),
        _number(row.images_per_s),
        _number(row.load_ms),
        _number(row.first_ms),
        _memory(row),
        _number(row.size_mib),
        str(row.processes),
        f"{row.status}: {row.reason}" if row.reason else row.status,
    ]


def legend(results: Sequence[Result]) -> str:
    """What the figures mean, and a line for each device, day and effort they come from."""
    engines: dict[str, dict[str, None]] = {}
    for result in results:
        engines.setdefault(_provenance(result), {})[_package_and_label(result)[0]] = None
    delegates = sorted({found.delegate for found in map(_placement, results) if found and found.delegate})
    meaning = "; ".join([MEANING, *(f"{name} n/m: nodes it runs of all in the file" for name in delegates)])
    return "\n".join([meaning, *(f"{where}; {', '.join(sorted(found))}" for where, found in engines.items())])


def narrow(results: Sequence[Result]) -> tuple[str, list[str], list[list[str]]]:
    """For a screen: what all rows share as a caption, then the headings and `cells` of what is left."""
    lines = [cells(row) for row in rows(results)]
    shared = {
        index
        for index, name in enumerate(columns())
        if name in SHAREABLE and lines and all(line[index] == lines[0][index] for line in lines)
    }
    kept = [index for index in range(len(columns())) if index not in shared]
    caption = ", ".join(f"{columns()[index]} {lines[0][index]}" for index in sorted(shared))
    return caption, [columns()[index] for index in kept], [[line[index] for index in kept] for line in lines]


def markdown(results: Sequence[Result]) -> str:
    """A GitHub table of `cells`."""
    lines = [columns(), ["---"] * len(columns()), *(cells(row) for row in rows(results))]
    return "".join(f"| {' | '.join(map(_escaped, line))} |\n" for line in lines)


def csv(results: Sequence[Result]) -> str:
    """RFC 4180, one column per field of `Row`; empty where it is None."""
    text = io.StringIO(newline="")
    writer = csv_format.DictWriter(text, [field.name for field in fields(Row)])
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows(results))
    return text.getvalue()


def json(results: Sequence[Result]) -> str:
    """An array of objects with the fields of `Row`."""
    return json_format.dumps([asdict(row) for row in rows(results)], indent=2, ensure_ascii=False) + "\n"


def _row(result: Result) -> Row:
    timings = [trial.timing for trial in result.trials]
    headline = latency([[ns / timing.block for ns in timing.samples_ns] for timing in timings])
    interval = headline.interval_ns if headline else None
    placement = _placement(result)
    return Row(
        model=result.model,
        weights=result.weights,
        target=result.target or "original",
        precision=result.precision,
        runtime=result.runtime,
        engine=_package_and_label(result)[1],
        delegate=placement.delegate if placement else None,
        delegate_nodes=placement.nodes_taken if placement else None,
        delegate_partitions=placement.partitions if placement else None,
        nodes=placement.nodes if placement else None,
        threads=result.threads,
        batch=result.batch,
        parity_passed=result.parity.passed if result.parity else None,
        parity_cosine=result.parity.cosine if result.parity else None,
        parity_top1=result.parity.top1 if result.parity else None,
        latency_ms=headline.median_ns / 1e6 if headline else None,
        latency_low_ms=interval.low / 1e6 if interval else None,
        latency_high_ms=interval.high / 1e6 if interval else None,
        images_per_s=throughput(headline.median_ns, batch=result.batch) if headline else None,
        load_ms=median(timing.load_ns for timing in timings) / 1e6 if timings else None,
        first_ms=median(timing.first_ns for timing in timings) / 1e6 if timings else None,
        memory_mib=result.memory.added_bytes / MIB if result.memory else None,
        process_memory_mib=result.memory.peak_bytes / MIB if result.memory else None,
        size_mib=result.size_bytes / MIB if result.size_bytes is not None else None,
        processes=len(timings),
        status=result.status,
        reason=result.failure.message if result.failure else "",
    )


def _package_and_label(result: Result) -> tuple[str, str]:
    """The runtime's package and its label, each with the version that was measured, if it is known."""
    try:
        runtime: Runtime = RUNTIMES.load(result.runtime)
        package, label = runtime.requires[0].replace("_", "-"), runtime.label
    except (UnknownName, MissingDependency):
        # Measured where there are other plug-ins than here.
        package, label = result.runtime, f"{result.runtime} {{version}}"
    version = f" {result.device.versions[package]}" if package in result.device.versions else ""
    return f"{package}{version}", label.replace(" {version}", version)


def _placement(result: Result) -> Placement | None:
    # The same in every process: it follows from the file, the engine and the machine.
    return next((trial.timing.placement for trial in result.trials if trial.timing.placement), None)


def _provenance(result: Result) -> str:
    device = result.device
    kind = ", virtualised" if device.virtualised else ""
    return (
        f"{device.device}: {device.cpu}, {device.logical_cpus} logical CPUs, "
        f"{device.memory_bytes / GIB:.0f} GiB{kind}, {device.os}, Python {device.python}; "
        f"{result.started:%Y-%m-%d}, effort {result.effort}"
    )


def _engine_and_delegate(row: Row) -> str:
    return f"{row.engine}, {row.delegate} {row.delegate_nodes}/{row.nodes}" if row.delegate else row.engine


def _parity(row: Row) -> str:
    if row.parity_passed is None or row.parity_cosine is None or row.parity_top1 is None:
        return NOT_APPLICABLE
    return f"{'pass' if row.parity_passed else 'fail'} ({at_least(row.parity_cosine)}, {percent(row.parity_top1)})"


def _latency(row: Row) -> str:
    if row.latency_low_ms is None or row.latency_high_ms is None:
        return _number(row.latency_ms)
    return f"{_number(row.latency_ms)} [{_number(row.latency_low_ms)}, {_number(row.latency_high_ms)}]"


def _memory(row: Row) -> str:
    if row.memory_mib is None:
        return NOT_APPLICABLE
    return f"{_number(row.memory_mib)} ({_number(row.process_memory_mib)})"


def _number(value: float | None) -> str:
    """Four significant figures, without an exponent."""
    if value is None:
        return NOT_APPLICABLE
    return f"{value:.{max(0, 4 - len(str(int(value))))}f}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
