"""LiteRT's own benchmarks: the block that its `benchmark_model` and `litert-benchmark` print, and the latter's JSON.

Times have two decimals of a millisecond: a model far below 1 ms cannot be measured with them, and one whose mean rounds
to nothing is refused.
"""

from __future__ import annotations

import re
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from ...models.errors import UnreadableOutput
from .outcome import Delegation, Outcome
from .printed import COUNT, NUMBER, Line, Printed, line, mebibytes, nanoseconds

LOG: Final = re.compile(r"INFO: \[[\w./]+:[0-9]+\] ", re.ASCII)
HEADING: Final = line(r"BENCHMARK RESULTS", r"(?: BENCHMARK RESULTS|={10} (?P<tool>BENCHMARK RESULTS) ={10})")
RULE: Final = re.compile("={38}|={40}")


def _row(label: str, unit: str, *, runs: bool = False) -> Line:
    rest = rf" \((?P<runs>{COUNT}) runs\)" if runs else ""
    return line(rf"{re.escape(label)}:", rf"{re.escape(label)}: +(?P<value>{NUMBER}){unit}{rest}")


ROWS: Final = {
    "init": _row("Model initialization", " ms"),
    "first": _row("Warmup (first)", " ms"),
    "warm_up": _row("Warmup (avg)", " ms", runs=True),
    "mean": _row("Inference (avg)", " ms", runs=True),
    "min": _row("Inference (min)", " ms"),
    "max": _row("Inference (max)", " ms"),
    # The one of C++ says no unit.
    "std": _row("Inference (std)", "(?: ms)?"),
}
PERCENTILES: Final = {
    "p5": _row("Inference (p5)", " ms"),
    "p50": _row("Inference (median)", " ms"),
    "p95": _row("Inference (p95)", " ms"),
}
MEMORY: Final = {
    "init_bytes": line("Init footprint:", rf"Init footprint: +(?P<value>-?{NUMBER}) MB"),
    "overall_bytes": line("Overall footprint:", rf"Overall footprint: +(?P<value>-?{NUMBER}) MB"),
    "peak_bytes": _row("Peak memory", " MB"),
}
ACCELERATED: Final = line("Fully accelerated", "Fully accelerated: +(?P<value>True|False)")


class _Latency(BaseModel):
    """All in milliseconds, or counts."""

    model_config = ConfigDict(allow_inf_nan=False)

    init_ms: float
    warmup_first_ms: float
    warmup_avg_ms: float
    num_warmup_runs: int
    avg_ms: float
    min_ms: float
    max_ms: float
    median_ms: float
    std_ms: float
    p5_ms: float
    p95_ms: float
    num_runs: int


class _Report(BaseModel):
    """What is read of `--result_json`."""

    accelerators: list[str]
    fully_accelerated: bool
    latency: _Latency


def parse(text: str) -> Outcome:
    """The record of a printed block, or of the content of `--result_json`; raises `UnreadableOutput` for all else.

    The generation is `C++`, `Python` or `JSON`. Only the last says which accelerators ran it, only the first memory.
    """
    return _of_json(text) if text.lstrip().startswith("{") else _of_block(text)


def _of_block(text: str) -> Outcome:
    whole = Printed.of(text, "litert")
    heading, block = _block(whole)
    rows = {name: block.one(kind, name) for name, kind in ROWS.items()}
    cpp = heading["tool"] is not None
    percentiles = {} if cpp else {name: block.one(kind, name) for name, kind in PERCENTILES.items()}
    memory = {name: found for name, kind in MEMORY.items() if (found := block.maybe(kind))}
    accelerated = None if cpp else block.one(ACCELERATED, "Fully accelerated")
    return whole.outcome(
        {
            "generation": "C++" if cpp else "Python",
            **{f"{name}_ns": nanoseconds(found["value"], "ms") for name, found in rows.items()},
            "warm_ups": int(rows["warm_up"]["runs"]),
            "inferences": int(rows["mean"]["runs"]),
            "percentiles_ns": {name: nanoseconds(found["value"], "ms") for name, found in percentiles.items()},
            "memory": {name: mebibytes(found["value"]) for name, found in memory.items()} or None,
            "delegations": [Delegation(delegate=None, whole=accelerated["value"] == "True")] if accelerated else (),
        }
    )


def _block(printed: Printed) -> tuple[re.Match[str], Printed]:
    """The heading and what stands between it and the rule at the end, without what logging puts before a line."""
    lines = [LOG.sub("", each, count=1) for each in printed.lines]
    plain = Printed(tool=printed.tool, text=printed.text, lines=tuple(lines))
    heading = plain.one(HEADING, "the block of results")
    start = lines.index(heading.string) + 1
    # Python draws a rule under its heading as well.
    start += heading["tool"] is None
    end = next((number for number, each in enumerate(lines[start:], start) if RULE.fullmatch(each)), None)
    if end is None:
        raise printed.fault("the block of results has no end")
    return heading, Printed(tool=printed.tool, text=printed.text, lines=tuple(lines[start:end]))


def _of_json(text: str) -> Outcome:
    printed = Printed(tool="litert", text=text, lines=())
    try:
        report = _Report.model_validate_json(text)
    except ValidationError as error:
        raise _json_fault(printed, error) from error
    told = report.latency
    times = {
        "init": told.init_ms, "first": told.warmup_first_ms, "warm_up": told.warmup_avg_ms, "mean": told.avg_ms,
        "min": told.min_ms, "max": told.max_ms, "std": told.std_ms,
    }  # fmt: skip
    percentiles = {"p5": told.p5_ms, "p50": told.median_ms, "p95": told.p95_ms}
    return printed.outcome(
        {
            "generation": "JSON",
            **{f"{name}_ns": nanoseconds(repr(ms), "ms") for name, ms in times.items()},
            "warm_ups": told.num_warmup_runs,
            "inferences": told.num_runs,
            "percentiles_ns": {name: nanoseconds(repr(ms), "ms") for name, ms in percentiles.items()},
            "delegations": [Delegation(delegate=name, whole=report.fully_accelerated) for name in report.accelerators],
        }
    )


def _json_fault(printed: Printed, error: ValidationError) -> UnreadableOutput:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return printed.fault(f"{where}: {first['msg']}" if where else f"its JSON is not whole: {first['msg']}")
