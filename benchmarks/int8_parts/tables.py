"""The tables on stdout, out of the record of a run and of nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any, Final

from evit_edge.converters.inspection import is_met
from evit_edge.converters.parity import percent
from evit_edge.edge import show as page

from .files import BASE
from .measure import AGAIN, ratio

Model = Mapping[str, Any]

LEAST_POINTS: Final = -0.5
LEAST_AGREEMENT: Final = {"int8": 0.96, "mixed": 0.985}
LEAST_INT8_SHARE: Final = 0.9
LEAST_SQNR_DB: Final = 20.0
# Of int8 files over the same target's float32 ones.
MOST_SIZE: Final = {"efficientvit_m0": 0.32, "efficientvit_m5": 0.28}
MOST_MORE_BYTES: Final = 10**9
COLUMNS: Final = (
    "file",
    "top-1 (95 %)",
    "points",
    "agrees",
    "p",
    "SQNR dB",
    "MB",
    "size / fp32",
    "latency / fp32 (95 %)",
    "int8 MACs",
    "made in s",
)
LEGEND: Final = (
    "top-1 with Wilson's interval; points, agreement, McNemar's p and SQNR are against the float32 original on the "
    "same images. Latency: one thread, median over processes with an interval of at least 95 %. Core ML: reference "
    "executor, not Apple hardware, so not timed."
)


def show(record: Mapping[str, Any]) -> None:
    for model in record["models"].values():
        files(model)
        for line in verdicts(model):
            page.line(f"{called(model)}: {line}")
    if record["memory"]:
        memory(record["memory"])
    rows = [row for model in record["models"].values() for row in bars(model)]
    rows += memory_bars(record["memory"])
    if rows:
        page.table("The bars", ["model", "what", "bar", "found", ""], rows)


def called(model: Model) -> str:
    return f"{model['original']['model']}, {model['original']['weights']}"


def files(model: Model) -> None:
    original = model["original"]
    cells = [_top1(original), *[""] * 9]
    rows = [["the original, float32", *cells]]
    rows.append(["one answer for all, its mean", *[""] * 4, f"{original['constant_db']:.1f}", *[""] * 5])
    for target, found in _by_target(model).items():
        floating = next((row for row in found if row["entry"]["name"] == BASE), {})
        rows.append([target, *[""] * 10])
        rows += [[row["entry"]["label"], *_cells(row, floating, model["trials"].get(target, []))] for row in found]
        if again := ratio(model["trials"].get(target, []), AGAIN):
            rows.append(["ours fp32 again (A/A)", *[""] * 7, _interval(again), "", ""])
    title = f"{called(model)}, {original['size']} px: {original['count']} images"
    page.table(title, COLUMNS, rows, footer="\n".join([LEGEND, *_times(model), *_remarks(model)]))


def _remarks(model: Model) -> Iterator[str]:
    for row in model["files"]:
        label, asked = f"{row['entry']['target']}, {row['entry']['label']}", row["entry"]["precision"]
        if "missing" in row:
            yield f"{label}: {row['missing']}"
        elif asked and not is_met(asked, row["holds"]):
            yield f"{label}: the file holds {row['holds']}, and the gate would refuse it"


def _by_target(model: Model) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in model["files"]:
        found.setdefault(row["entry"]["target"], []).append(row)
    return found


def _cells(row: Mapping[str, Any], floating: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> list[str]:
    if "missing" in row:
        return ["—"] * 10
    share, base = row["int8_share"], floating.get("size_bytes")
    timed = ratio(trials, row["entry"]["name"])
    return [
        _top1(row),
        f"{row['points']:+.2f}" if "points" in row else "",
        percent(row["agreement"]),
        f"{row['p']:.2g}" if "p" in row else "",
        f"{row['sqnr_db']:.1f}",
        f"{row['size_bytes'] / 1e6:.2f}",
        f"{row['size_bytes'] / base:.3f}" if base else "—",
        _interval(timed) if timed else "not timed",
        "—" if share is None else percent(share),
        f"{row['seconds']:.1f}",
    ]


def _top1(row: Mapping[str, Any]) -> str:
    if "top1" not in row:
        return ""
    low, high = (100 * row["top1"][side] for side in ("low", "high"))
    return f"{100 * row['top1']['share']:.2f} % ({low:.1f}…{high:.1f})"


def _interval(found: Mapping[str, Any]) -> str:
    interval = found["interval"]
    return f"{found['median']:.3f}" + (f" ({interval['low']:.3f}…{interval['high']:.3f})" if interval else "")


def _times(model: Model) -> Iterator[str]:
    for target, trials in model["trials"].items():
        base = median(trial["medians_ns"][BASE] for trial in trials) / 1e6
        load = median(trial["load_average"] for trial in trials)
        yield f"{target}: fp32 {base:.3f} ms, {len(trials)} processes, load average {load:.1f}."


def verdicts(model: Model) -> Iterator[str]:
    """In words, for w8, int8 and mixed of every target that was timed: slower than float32 here, faster, or neither."""
    for target, trials in model["trials"].items():
        itself = ratio(trials, AGAIN)
        control = f"; fp32 over itself {_interval(itself)}" if itself else ""
        for name in ("w8", "int8", "mixed"):
            found = ratio(trials, name)
            if found is None or found["interval"] is None:
                continue
            by = 100 * (found["median"] - 1)
            if found["interval"]["low"] > 1:
                words = f"is SLOWER than fp32 on this CPU, by {by:.0f} %"
            elif found["interval"]["high"] < 1:
                words = f"is faster than fp32 on this CPU, by {-by:.0f} %"
            else:
                words = "takes as long as fp32 on this CPU, as far as can be told"
            yield f"{target} {name} {words} ({_interval(found)}{control})"


def memory(rows: Sequence[Mapping[str, Any]]) -> None:
    counts = sorted({row["count"] for row in rows})
    cells = []
    for (target, method), found in _methods(rows).items():
        peaks = [_mib(found[count]) for count in counts]
        more = _more_bytes(found)
        seconds = [f"{found[count]['seconds']:.0f}" if "seconds" in found[count] else "—" for count in counts]
        cells.append([target, method, *peaks, "—" if more is None else f"{more / 2**20:.0f}", *seconds])
    columns = ["target", "method", *(f"{count} images: MiB" for count in counts), "difference MiB"]
    footer = "Peak resident memory of the processes that one int8 conversion starts: M0, noise as images of 224 px."
    missing = [
        f"{row['target']}, {row['method']}, {row['count']}: {row['missing']}" for row in rows if "missing" in row
    ]
    columns += [f"{count} images: s" for count in counts]
    page.table("Memory", columns, cells, footer="\n".join([footer, *missing]))


def _methods(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], dict[int, Mapping[str, Any]]]:
    found: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["target"], row["method"]), {})[row["count"]] = row
    return found


def _mib(row: Mapping[str, Any]) -> str:
    return f"{row['peak_bytes'] / 2**20:.0f}" if "peak_bytes" in row else "—"


def _more_bytes(found: Mapping[int, Mapping[str, Any]]) -> int | None:
    fewest, most = found[min(found)], found[max(found)]
    if "missing" in fewest or "missing" in most:
        return None
    return int(most["peak_bytes"] - fewest["peak_bytes"])


def judged(what: str, value: float, bar: float, *, least: bool, digits: int = 3) -> list[str]:
    met = value >= bar if least else value <= bar
    return [what, f"{'≥' if least else '≤'} {bar:g}", f"{value:.{digits}f}", "met" if met else "missed"]


def bars(model: Model) -> list[list[str]]:
    rows = []
    for row in (row for row in model["files"] if row["entry"]["recipe"] == "ours" and "missing" not in row):
        rows += [[called(model), *found] for found in _bars_of(row, model)]
    return rows


def _bars_of(row: Mapping[str, Any], model: Model) -> Iterator[list[str]]:
    name, precision, target = model["original"]["model"], row["entry"]["precision"], row["entry"]["target"]
    said = f"{target} {precision}"
    if "top1" in row and precision in LEAST_AGREEMENT:
        bar = 100 * LEAST_AGREEMENT[precision]
        yield judged(f"{said}: agreement, %", 100 * row["agreement"], bar, least=True, digits=2)
    if "top1" in row and precision == "int8":
        yield judged(f"{said}: points", row["points"], LEAST_POINTS, least=True, digits=2)
    if precision == "mixed":
        yield judged(f"{said}: MACs in int8", row["int8_share"], LEAST_INT8_SHARE, least=True)
    if precision == "int8":
        if "top1" not in row:
            yield judged(f"{said}: SQNR, dB", row["sqnr_db"], LEAST_SQNR_DB, least=True, digits=1)
        base = next((other for other in _by_target(model)[target] if other["entry"]["name"] == BASE), {})
        if name in MOST_SIZE and "size_bytes" in base:
            yield judged(f"{said}: size / fp32", row["size_bytes"] / base["size_bytes"], MOST_SIZE[name], least=False)


def memory_bars(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    known = [more for found in _methods(rows).values() if (more := _more_bytes(found)) is not None]
    if not known:
        return []
    what = f"memory, MB more, worst of {len(known)}"
    return [["efficientvit_m0", *judged(what, max(known) / 1e6, MOST_MORE_BYTES / 1e6, least=False, digits=0)]]
