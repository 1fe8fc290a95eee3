"""ONNX Runtime's `onnxruntime_perf_test`: what it prints, in two generations.

`old` counts iterations, and `current`, since 2020, inference requests; latencies as `P50 Latency is 0.058sec` and as
`P50 Latency: 0.058 s` occur in both. There is one warm-up run, which only `current` times, in whole milliseconds.
"""

from __future__ import annotations

import math
import re
from typing import Final

from .outcome import Outcome
from .printed import COUNT, NUMBER, Line, Printed, line, nanoseconds

INIT: Final = line("Session creation time", rf"Session creation time cost: ?(?P<value>{NUMBER}) s")
FIRST: Final = line("First inference time", rf"First inference time cost: ?(?P<value>{COUNT}) ms")
TOTAL: Final = line(r"Total (?:inference )?time cost", rf"Total (?:inference )?time cost: ?(?P<value>{NUMBER})(?: s)?")
RUNS: Final = line(
    r"Total inference requests|Total iterations", rf"Total (?:inference requests|iterations): ?(?P<value>{COUNT})"
)
MEAN: Final = line(
    r"Average (?:inference )?time cost",
    rf"Average (?:inference )?time cost(?: total)?: ?(?P<value>{NUMBER}) ms",
)
# Printed twice by some releases, with and without its unit.
PEAK: Final = line(r"Peak working set size: ", rf"Peak working set size: (?P<value>{COUNT}) bytes")
LATENCIES: Final = {
    "min": "Min", "p50": "P50", "p90": "P90", "p95": "P95", "p99": "P99", "p99.9": "P999", "max": "Max",
}  # fmt: skip


def parse(text: str) -> Outcome:
    """One run's record; without `-s` some releases print no latencies, and minimum, maximum and percentiles are null.

    Raises `UnreadableOutput` for anything else, also where the latencies contradict the mean: releases before the end
    of 2025 print those of handing work to a GPU, not of doing it.
    """
    printed = Printed.of(text, "onnxruntime_perf_test")
    runs = printed.one(RUNS, "the number of inferences")
    mean_ns = nanoseconds(printed.one(MEAN, "the mean")["value"], "ms")
    total_ns = nanoseconds(printed.one(TOTAL, "the total time")["value"], "s")
    if not math.isclose(total_ns, mean_ns * int(runs["value"]), rel_tol=1e-4):
        raise printed.fault("the mean times the number of inferences is not the total time")
    init, first, peak = printed.maybe(INIT), printed.maybe(FIRST), printed.maybe(PEAK)
    times = {name: nanoseconds(found["value"], "s") for name, found in _latencies(printed).items()}
    return printed.outcome(
        {
            "generation": "old" if "iterations" in runs.group() else "current",
            "init_ns": nanoseconds(init["value"], "s") if init else None,
            # Below one millisecond it says 0, and does not tell.
            "first_ns": nanoseconds(first["value"], "ms") or None if first else None,
            "warm_ups": 1,
            "inferences": int(runs["value"]),
            "mean_ns": mean_ns,
            "min_ns": times.pop("min", None),
            "max_ns": times.pop("max", None),
            "percentiles_ns": times,
            "memory": {"peak_bytes": int(peak["value"])} if peak else None,
        }
    )


def _latencies(printed: Printed) -> dict[str, re.Match[str]]:
    """All of them or none."""
    found = {name: printed.maybe(_latency(label)) for name, label in LATENCIES.items()}
    there = {name: it for name, it in found.items() if it}
    missing = [LATENCIES[name] for name in found if name not in there]
    if there and missing:
        raise printed.fault(f"the latency {missing[0]} is missing")
    return there


def _latency(label: str) -> Line:
    return line(rf"{label} Latency", rf"{label} Latency(?: is |: )(?P<value>{NUMBER}) ?s(?:ec)?")
