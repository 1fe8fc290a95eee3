"""Rows in, text out: what people read of them, and Markdown, CSV and JSON."""

from __future__ import annotations

import csv as csv_format
import io
import json as json_format
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal

from pydantic import TypeAdapter

from ...converters.parity import at_least, percent
from ..result import Result
from ..statistics import CONFIDENCE
from .summary import Row, package_and_label

GIB: Final = 2**30
NOT_APPLICABLE: Final = "—"
MARK: Final = "★"
SHAREABLE: Final = ("device", "model", "weights", "target", "precision", "threads", "batch", "processes")
MEANING: Final = (
    "latency: median over processes [95 % interval of it, or what is said]; "
    f"{MARK}: the fastest of its session and batch, and all whose intervals overlap with that"
)
MORE_MEANING: Final = "img/s: batch / latency; memory: what the model added to the peak (peak of the whole process)"

Level = Literal["short", "usual", "all"]
Measure = Callable[[Row], float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A heading with its unit, and what people read under it; `value` is the number that it stands for.

    `level` says where it is shown: on a screen, in a document too, or only where all are.
    """

    heading: str
    level: Level
    text: Callable[[Row], str]
    value: Measure | None = None


def number(value: float | None) -> str:
    """Four significant figures, without an exponent."""
    if value is None:
        return NOT_APPLICABLE
    return f"{value:.{max(0, 4 - len(str(int(abs(value)))))}f}"


def _plain(heading: str, level: Level, value: Measure) -> Column:
    return Column(heading=heading, level=level, text=lambda row: number(value(row)), value=value)


def _whole(heading: str, level: Level, value: Measure) -> Column:
    def text(row: Row) -> str:
        found = value(row)
        return NOT_APPLICABLE if found is None else f"{found:.0f}"

    return Column(heading=heading, level=level, text=text, value=value)


def _word(heading: str, level: Level, text: Callable[[Row], str]) -> Column:
    return Column(heading=heading, level=level, text=text)


def _share(heading: str, value: Measure) -> Column:
    def text(row: Row) -> str:
        found = value(row)
        return NOT_APPLICABLE if found is None else f"{100 * found:.1f}"

    return Column(heading=heading, level="all", text=text, value=value)


def _percentile(name: str) -> Column:
    def text(row: Row) -> str:
        value: float | None = getattr(row, f"{name}_ms")
        if value is None:
            return f"{NOT_APPLICABLE} (n={row.samples})" if row.samples else NOT_APPLICABLE
        return f"{number(value)} (≤ {number(getattr(row, f'{name}_upper_ms'))})"

    shown = "p99.9" if name == "p999" else name
    return Column(heading=f"{shown} ms", level="all", text=text, value=lambda row: getattr(row, f"{name}_ms"))


def _engine(row: Row) -> str:
    taken = "?" if row.delegate_nodes is None else row.delegate_nodes
    return f"{row.engine}, {row.delegate} {taken}/{row.nodes}" if row.delegate else row.engine


def _latency(row: Row) -> str:
    text = number(row.latency_ms)
    if row.latency_low_ms is not None and row.latency_high_ms is not None:
        short = row.latency_coverage is not None and row.latency_coverage < CONFIDENCE
        worth = f"; {100 * row.latency_coverage:.0f} %" if short and row.latency_coverage else ""
        text += f" [{number(row.latency_low_ms)}, {number(row.latency_high_ms)}{worth}]"
    return f"{text} {MARK}" if row.fastest else text


def _validity(row: Row) -> str:
    if row.status == "failed":
        return f"failed: {row.reason}"
    codes = ", ".join(reason.code for reason in row.reasons)
    return f"{row.validity}: {codes}" if codes else row.validity


def _parity(row: Row) -> str:
    if row.parity_passed is None or row.parity_cosine is None or row.parity_top1 is None:
        return NOT_APPLICABLE
    return f"{'pass' if row.parity_passed else 'fail'} ({at_least(row.parity_cosine)}, {percent(row.parity_top1)})"


def _top1(row: Row) -> str:
    if row.top1 is None or row.top1_low is None or row.top1_high is None:
        return NOT_APPLICABLE
    return f"{100 * row.top1:.2f} [{100 * row.top1_low:.2f}, {100 * row.top1_high:.2f}]"


def _memory(row: Row) -> str:
    return NOT_APPLICABLE if row.memory_mib is None else f"{number(row.memory_mib)} ({number(row.process_memory_mib)})"


COLUMNS: Final = (
    _word("device", "short", lambda row: row.device),
    _word("model", "short", lambda row: row.model),
    _word("weights", "short", lambda row: row.weights),
    _word("target", "short", lambda row: row.target),
    _word("precision", "short", lambda row: row.precision),
    _word("runtime", "short", _engine),
    _whole("threads", "short", lambda row: row.threads),
    _whole("batch", "short", lambda row: row.batch),
    Column(heading="latency ms [95 %]", level="short", text=_latency, value=lambda row: row.latency_ms),
    _word("validity", "short", _validity),
    Column(heading="parity (cosine, top-1)", level="usual", text=_parity, value=lambda row: row.parity_cosine),
    Column(heading="top-1 % [95 %]", level="usual", text=_top1, value=lambda row: row.top1),
    _plain("img/s", "usual", lambda row: row.images_per_s),
    _plain("load ms", "usual", lambda row: row.load_ms),
    _plain("first ms", "usual", lambda row: row.first_ms),
    Column(heading="memory MiB (process)", level="usual", text=_memory, value=lambda row: row.memory_mib),
    _plain("size MiB", "usual", lambda row: row.size_mib),
    _whole("processes", "usual", lambda row: row.processes),
    _whole("samples", "all", lambda row: row.samples),
    _whole("calls a sample", "all", lambda row: row.block),
    _plain("min ms", "all", lambda row: row.min_ms),
    _plain("mean ms", "all", lambda row: row.mean_ms),
    _plain("MAD ms", "all", lambda row: row.mad_ms),
    _share("CV of processes %", lambda row: row.process_cv),
    *map(_percentile, ("p90", "p95", "p99", "p999")),
    _share("disturbed %", lambda row: row.disturbed),
    _plain("undisturbed ms", "all", lambda row: row.undisturbed_ms),
    _whole("outliers", "all", lambda row: row.outliers),
    _plain("energy mJ", "all", lambda row: row.energy_mj),
    _word("energy from", "all", lambda row: row.energy_source or NOT_APPLICABLE),
    _plain("last minute / first", "all", lambda row: row.sustained_ratio),
    _plain("throttled after s", "all", lambda row: row.throttled_after_s),
    _word("effort", "all", lambda row: row.effort),
    _word("started", "all", lambda row: row.started),
    _word("session", "all", lambda row: row.session),
    _word("artifact", "all", lambda row: row.artifact_digest or NOT_APPLICABLE),
)


def columns(*levels: Level) -> list[Column]:
    """Those of `levels`, in order."""
    return [column for column in COLUMNS if column.level in levels]


def legend(results: Sequence[Result]) -> str:
    """What the figures mean, and a line for each device, day and effort they come from."""
    engines: dict[str, dict[str, None]] = {}
    for result in results:
        engines.setdefault(provenance(result), {})[package_and_label(result)[0]] = None
    placements = [trial.timing.placement for result in results for trial in result.trials]
    delegates = sorted({found.delegate for found in placements if found and found.delegate})
    meaning = "; ".join([MEANING, *(f"{name} n/m: nodes it runs of all in the file" for name in delegates)])
    return "\n".join([meaning, *(f"{where}; {', '.join(sorted(found))}" for where, found in engines.items())])


def provenance(result: Result) -> str:
    """The machine, the day and the effort of a result in one line."""
    device = result.device
    kind = ", virtualised" if device.virtualised else ""
    return (
        f"{device.device}: {device.cpu}, {device.logical_cpus} logical CPUs, "
        f"{device.memory_bytes / GIB:.0f} GiB{kind}, {device.os}, Python {device.python}; "
        f"{result.started:%Y-%m-%d}, effort {result.effort}"
    )


def shared(rows: Sequence[Row]) -> dict[str, str]:
    """By heading, what all rows have in common and need not repeat."""
    texts = {column.heading: {column.text(row) for row in rows} for column in COLUMNS if column.heading in SHAREABLE}
    return {heading: found.pop() for heading, found in texts.items() if len(found) == 1}


def narrow(rows: Sequence[Row], shown: Sequence[Column] | None = None) -> tuple[str, list[str], list[list[str]]]:
    """What all rows share as a caption, then headings and texts of the others of `shown`: None is the short ones."""
    wanted = columns("short") if shown is None else shown
    same = shared(rows)
    kept = [column for column in wanted if column.heading not in same]
    caption = ", ".join(f"{column.heading} {same[column.heading]}" for column in wanted if column.heading in same)
    return caption, [column.heading for column in kept], [[column.text(row) for column in kept] for row in rows]


def details(row: Row) -> str:
    """What the short columns leave out of a row, and the reasons against it in words, on lines of their own."""
    name = f"{row.model} {row.weights}, {row.target} {row.precision}, {_engine(row)}"
    name += f", {row.threads} threads, batch {row.batch}"
    rest = [f"{column.heading} {column.text(row)}" for column in columns("usual", "all")]
    reasons = [f"  {reason.code}: {reason.detail}" for reason in row.reasons]
    return "\n".join([name, f"  {'; '.join(rest)}", *reasons, f"  {row.command}"])


def markdown(rows: Sequence[Row]) -> str:
    """A GitHub table, without the columns that only make it wide."""
    shown = columns("short", "usual")
    texts = [[column.text(row) for column in shown] for row in rows]
    lines = [[column.heading for column in shown], ["---"] * len(shown), *texts]
    return "".join(f"| {' | '.join(map(_escaped, line))} |\n" for line in lines)


def csv(rows: Sequence[Row]) -> str:
    """RFC 4180, one column per field of `Row`; empty where it is None, several values with `; ` between them."""
    text = io.StringIO(newline="")
    writer = csv_format.DictWriter(text, [field.name for field in fields(Row)])
    writer.writeheader()
    for row in rows:
        medians = "; ".join(map(str, row.process_medians_ms))
        reasons = "; ".join(f"{reason.code}: {reason.detail}" for reason in row.reasons)
        writer.writerow(asdict(row) | {"process_medians_ms": medians, "reasons": reasons})
    return text.getvalue()


def json(rows: Sequence[Row]) -> str:
    """An array of objects with the fields of `Row`."""
    return json_format.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False) + "\n"


def schema() -> dict[str, Any]:
    """The JSON Schema of what `json` gives."""
    return TypeAdapter(list[Row]).json_schema()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
