"""TFLite's and LiteRT's `benchmark_model`: what it prints, since 2019.

Three generations, told by their last line: `2019`, `2020` (until 2022: other words, the order of today) and `current`,
with `INFO: ` before its lines. Times are microseconds, memory 1024² bytes.
"""

from __future__ import annotations

import re
from typing import Final

from ...models.errors import Unsupported
from .benchmark_model_profile import operators as operators_of
from .outcome import Delegation, Outcome
from .printed import COUNT, NUMBER, Printed, line, mebibytes, nanoseconds

LOG: Final = r"(?:(?:INFO|WARN): )?"
NAMES: Final = {"mean": "avg", "min": "min", "max": "max", "std": "std"}
STARTED: Final = line(
    r"Running benchmark for ",
    rf"{LOG}Running benchmark for at least {COUNT} iterations and at least {NUMBER} seconds"
    rf"(?: but terminate if exceeding {NUMBER} seconds\.)?",
)
# A profile has a line of its own that ends alike: Timings (microseconds): count=…
STATISTICS: Final = line(
    rf"(?<!\): )\bcount=[0-9]+ (?:first|curr)=|^{LOG}count=0",
    rf"{LOG}count=(?P<count>{COUNT}) "
    rf"(?:first=(?P<first>{NUMBER}) curr={NUMBER} min=(?P<min>{NUMBER}) max=(?P<max>{NUMBER}) avg=(?P<avg>{NUMBER})"
    rf" std=(?P<std>{NUMBER})|curr=(?P<same>{NUMBER})(?P<repeated>\(all same\))?)"
    rf"(?: p5=(?P<p5>{NUMBER}) median=(?P<p50>{NUMBER}) p95=(?P<p95>{NUMBER}))?",
)
SUMMARY: Final = line(
    r"nference timings in us",
    rf"(?P<info>INFO: )?(?:Inference timings in us: Init: (?P<init>{NUMBER}), First inference: (?P<first>{NUMBER}),"
    rf" Warmup \(avg\): (?P<warm_up>{NUMBER}), Inference \(avg\): (?P<avg>{NUMBER})"
    rf"|Average inference timings in us: Warmup: (?P<warm_up_2019>{NUMBER}), Init: (?P<init_2019>{NUMBER}),"
    rf" no stats: (?P<avg_2019>{NUMBER}))",
)
DELEGATE: Final = line(
    r"pplied .+ delegate[.,]|delegate is explicitly applied",
    rf"{LOG}(?:(?:Explicitly applied|Applied) (?P<applied>.+?) delegate(?:|, and the model graph will be (?:"
    rf"(?P<whole>completely) executed by the delegate|partially executed by the delegate w/ (?P<kernels>{COUNT})"
    r" delegate kernels))\."
    r"|Though (?P<idle>.+?) delegate is explicitly applied, the model graph will not be executed by the delegate\.)",
)
MEMORY: Final = line(
    r"emory footprint[^\[]*\(MB\): ",
    rf"{LOG}(?:Memory footprint delta from the start of the tool|Peak memory footprint) \(MB\):"
    rf" init=(?P<init>-?{NUMBER}) overall=(?P<overall>-?{NUMBER})",
)
PEAK: Final = line(
    r"emory footprint \(MB\) via",
    rf"{LOG}Overall peak memory footprint \(MB\) via periodic monitoring: (?P<peak>{NUMBER})",
)
IGNORED: Final = line(r"Unconsumed cmdline flags", rf"{LOG}Unconsumed cmdline flags: (?P<flags>.+)")
REFUSED: Final = "Disallowed CPU fallback detected."


def parse(text: str, *, operators: bool = False) -> Outcome:
    """One run's record from all that the tool printed, errors included; `operators` wants the profile as well.

    Raises `Unsupported` if the tool refused to leave a part of the model to the CPU, and `UnreadableOutput` for
    anything that is not one whole run.
    """
    printed = Printed.of(text, "benchmark_model")
    if REFUSED in text:
        raise Unsupported(
            "benchmark_model: the delegate does not take the whole model, and the CPU was not allowed to",
            "run it without --require_full_delegation",
        )
    warm_up, timed, summary = _figures(printed)
    _cross_check(printed, warm_up=warm_up, timed=timed, summary=summary)
    return printed.outcome(
        {
            "generation": _generation(summary),
            "init_ns": _told(summary, "init", "init_2019"),
            "first_ns": _statistics(warm_up)["first"],
            "warm_ups": int(warm_up["count"]),
            "warm_up_ns": _statistics(warm_up)["avg"],
            "inferences": int(timed["count"]),
            **{f"{name}_ns": _statistics(timed)[key] for name, key in NAMES.items()},
            "percentiles_ns": {
                name: nanoseconds(timed[name], "us") for name in ("p5", "p50", "p95") if timed[name] is not None
            },
            "memory": _memory(printed),
            "delegations": [_delegation(found) for found in printed.all(DELEGATE)],
            "ignored_flags": [flag for found in printed.all(IGNORED) for flag in found["flags"].split()],
            "operators": operators_of(printed) if operators else (),
        }
    )


def _figures(printed: Printed) -> tuple[re.Match[str], re.Match[str], re.Match[str]]:
    """The lines of the warm-up, of the run and of the summary, which stand in this order."""
    kinds = {"start": STARTED, "statistics": STATISTICS, "summary": SUMMARY}
    found = [(name, it) for each in printed.lines for name, kind in kinds.items() if (it := printed.match(each, kind))]
    if [name for name, _ in found] != ["start", "statistics", "start", "statistics", "summary"]:
        raise printed.fault(f"one warm-up, one run and one summary were expected, found: {[name for name, _ in found]}")
    warm_up, timed, summary = found[1][1], found[3][1], found[4][1]
    if any(it.string.startswith("INFO: ") != bool(summary["info"]) for _, it in found):
        raise printed.fault("some of the lines begin with INFO and some do not")
    return warm_up, timed, summary


def _statistics(found: re.Match[str]) -> dict[str, float]:
    """Nanoseconds; where all runs took the same, the tool prints the last alone."""
    if found["same"] is not None:
        same = nanoseconds(found["same"], "us")
        return {"first": same, "min": same, "max": same, "avg": same, "std": 0.0}
    return {name: nanoseconds(found[name], "us") for name in ("first", "min", "max", "avg", "std")}


def _cross_check(printed: Printed, *, warm_up: re.Match[str], timed: re.Match[str], summary: re.Match[str]) -> None:
    """The summary repeats figures of the lines before it: a digit that was lost shows there."""
    for found in (warm_up, timed):
        if found["same"] is not None and (int(found["count"]) > 1) != bool(found["repeated"]):
            raise printed.fault(f"cannot read the line {found.string[:120]!r}")
    pairs = [
        (_statistics(warm_up)["avg"], _told(summary, "warm_up", "warm_up_2019")),
        (_statistics(timed)["avg"], _told(summary, "avg", "avg_2019")),
    ]
    if summary["first"] is not None:
        pairs.append((_statistics(warm_up)["first"], nanoseconds(summary["first"], "us")))
    if any(one != other for one, other in pairs):
        raise printed.fault("the summary contradicts the lines before it")


def _told(found: re.Match[str], *names: str) -> float:
    return next(nanoseconds(found[name], "us") for name in names if found[name] is not None)


def _generation(summary: re.Match[str]) -> str:
    if summary["avg_2019"] is not None:
        return "2019"
    return "current" if summary["info"] else "2020"


def _memory(printed: Printed) -> dict[str, int] | None:
    delta, peak = printed.maybe(MEMORY), printed.maybe(PEAK)
    if not delta and not peak:
        return None
    figures = {**(delta.groupdict() if delta else {}), **(peak.groupdict() if peak else {})}
    return {f"{name}_bytes": mebibytes(figure) for name, figure in figures.items()}


def _delegation(found: re.Match[str]) -> Delegation:
    if found["idle"] is not None:
        return Delegation(delegate=found["idle"], whole=False, kernels=0)
    if found["whole"]:
        return Delegation(delegate=found["applied"], whole=True, kernels=1)
    if found["kernels"]:
        return Delegation(delegate=found["applied"], whole=False, kernels=int(found["kernels"]))
    return Delegation(delegate=found["applied"])
