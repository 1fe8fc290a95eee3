"""Results held against a baseline, each pair with its verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Final, Literal

from pydantic import TypeAdapter

from ..models.errors import Unsupported
from . import resolution
from .device import DeviceInfo
from .result import Result
from .verdict import CHANGE, PAIRS, P, Reading, Verdict, against_history, compare, holm

Metric = Literal["median", "min"]
NoiseFloor = Callable[[DeviceInfo], float | None]
METRICS: Final[dict[Metric, Callable[[Sequence[float]], float]]] = {"median": median, "min": min}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A candidate, what it is held against, and the verdict on it."""

    baseline: Result
    candidate: Result
    verdict: Verdict

    def is_regression(self, most: float) -> bool:
        """Whether the candidate is found, or suspected from history, to take longer by more than the share `most`."""
        return (self.verdict.kind == "slower" or self.verdict.suspected) and (self.verdict.change or 0.0) > most


def side_by_side(
    pairs: Sequence[tuple[Result, Result]],
    *,
    metric: Metric = "median",
    noise_floor: NoiseFloor = resolution.noise_floor,
) -> list[Comparison]:
    """The verdict on the second of each pair, by the rounds that both took part in, corrected for their number.

    `metric` is what stands for a process: its median, or its minimum for questions of code rather than of users.
    `noise_floor` gives that of the machine which measured, or None.
    """
    verdicts = [
        compare(_readings(old, metric), _readings(new, metric), noise_floor=noise_floor(old.device) or 0.0)
        for old, new in pairs
    ]
    return _comparisons(pairs, holm(verdicts))


def with_history(pairs: Sequence[tuple[Result, Result]], *, metric: Metric = "median") -> list[Comparison]:
    """What can be said where the two were measured at different times: a suspicion, never a verdict."""
    return _comparisons(pairs, [_with_history(old, new, metric) for old, new in pairs])


def _with_history(old: Result, new: Result, metric: Metric) -> Verdict:
    values = [[reading.value for reading in _readings(each, metric)] for each in (old, new)]
    found = against_history(*values)
    if _machine(old) == _machine(new):
        return found
    return replace(found, suspected=False, reason="measured on different machines")


def _machine(result: Result) -> tuple[str, str, int]:
    return result.device.device, result.device.cpu, result.device.logical_cpus


def _readings(result: Result, metric: Metric) -> list[Reading]:
    of = METRICS[metric]
    if metric != "median" and any(trial.timing.summary for trial in result.trials):
        raise Unsupported(f"{result.runtime} keeps its single calls to itself: there is no {metric}", "compare medians")
    return [
        Reading(session=result.session, round=trial.round, order=trial.order, value=of(trial.timing.per_call_ns))
        for trial in result.trials
    ]


def _comparisons(pairs: Sequence[tuple[Result, Result]], verdicts: Sequence[Verdict]) -> list[Comparison]:
    return [
        Comparison(baseline=old, candidate=new, verdict=_doubted(old, new, verdict))
        for (old, new), verdict in zip(pairs, verdicts, strict=True)
    ]


def _doubted(old: Result, new: Result, verdict: Verdict) -> Verdict:
    """No verdict on what failed."""
    failed = next((each for each in (old, new) if each.failure), None)
    if failed is None or failed.failure is None or verdict.kind == "inconclusive":
        return verdict
    return replace(verdict, kind="inconclusive", reason=failed.failure.message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A comparison in numbers and words: `change` 0.1 is 10 % slower, from `low` to `high` at 95 %."""

    baseline: str
    candidate: str
    verdict: str
    change: float | None
    low: float | None
    high: float | None
    p: float | None
    pairs: int
    reason: str


COLUMNS: Final = ["baseline", "candidate", "verdict", "change [95 %]", "p", "rounds", "why"]
MEANING: Final = (
    f"slower or faster: at least {PAIRS} rounds side by side, exact p < {P:g}, and more than {CHANGE:.0%} and the "
    f"machine's noise; same: the whole interval within ±{CHANGE:.0%}"
)


def rows(comparisons: Sequence[Comparison]) -> list[Row]:
    """What is shown of each comparison, in order."""
    return [
        Row(
            baseline=_name(each.baseline),
            candidate=_name(each.candidate),
            verdict=each.verdict.kind,
            change=each.verdict.change,
            low=each.verdict.interval.low if each.verdict.interval else None,
            high=each.verdict.interval.high if each.verdict.interval else None,
            p=each.verdict.p,
            pairs=each.verdict.pairs,
            reason=each.verdict.reason,
        )
        for each in comparisons
    ]


def schema() -> dict[str, Any]:
    """The JSON Schema of what `compare --json` prints."""
    return TypeAdapter(list[Row]).json_schema()


def cells(row: Row) -> list[str]:
    """The same for people, under `COLUMNS`."""
    change = "—" if row.change is None else f"{row.change:+.1%}"
    interval = "" if row.low is None or row.high is None else f" [{row.low:+.1%}, {row.high:+.1%}]"
    p = "—" if row.p is None else f"{row.p:.2g}"
    return [row.baseline, row.candidate, row.verdict, f"{change}{interval}", p, str(row.pairs), row.reason]


def _name(result: Result) -> str:
    target = result.target or "original"
    many = ((result.threads, "threads"), (result.batch, "images at once"))
    shape = "".join(f", {count} {what}" for count, what in many if count > 1)
    return f"{result.model} {target} {result.precision} in {result.runtime}{shape}"
