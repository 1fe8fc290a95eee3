"""What a tool's summary leaves open is null in the record, unknown in the row, and no ground for a verdict."""

from typing import Any

import pytest
from pydantic import ValidationError

from evit_edge.device_bench import comparison, validity
from evit_edge.device_bench.record import Conditions, Placement, Summary, Timing
from evit_edge.device_bench.report import summary
from evit_edge.device_bench.result import Result, Trial
from evit_edge.models.errors import Unsupported

from ..conftest import MakeResult, make_trial

TOLD = Summary(
    tool="benchmark_model",
    generation="current",
    binary_sha256="5" * 64,
    arguments=("--num_threads=1",),
    warm_ups=3,
    inferences=50,
    mean_ns=2e6,
    percentiles_ns={"p50": 2e6},
)


def timing(**changes: object) -> Timing:
    known: dict[str, Any] = {"samples_ns": (2_000_000,), "warm_up_converged": None, "summary": TOLD, **changes}
    return make_trial(**known).timing


def trials(count: int, **changes: object) -> tuple[Trial, ...]:
    return tuple(Trial(round=number, order=0, timing=timing(**changes)) for number in range(count))


def codes(result: Result) -> dict[str, str]:
    return {reason.code: reason.level for reason in validity.judge(result).reasons}


@pytest.mark.parametrize(
    "wrong", [{"samples_ns": (1, 2)}, {"block": 2}, {"warm_up_converged": True}, {"summary": None}]
)
def test_a_record_cannot_claim_more_than_the_summary_says(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        timing(**wrong)


def test_a_record_of_before_is_read_as_it_was() -> None:
    before = make_trial().timing
    said = before.model_dump()
    del said["summary"]
    assert Timing.model_validate(said) == before


def test_a_hundred_medians_give_no_percentile(make_result: MakeResult) -> None:
    result = make_result(trials=trials(100))
    (row,) = summary.rows([result])
    assert (row.latency_ms, row.samples, row.p90_ms, row.min_ms, row.outliers) == (2.0, 5000, None, None, None)
    assert codes(result) == {"SUMMARY": "SEMI"}


def test_a_tool_without_a_median_says_that_the_figure_is_a_mean(make_result: MakeResult) -> None:
    told = TOLD.model_copy(update={"percentiles_ns": {}})
    (reason,) = validity.judge(make_result(trials=trials(6, summary=told))).reasons
    assert "the figure is a mean" in reason.detail


def test_minima_are_not_compared_where_there_are_none(make_result: MakeResult) -> None:
    pairs = [(make_result(trials=trials(6)), make_result(trials=trials(6)))]
    assert comparison.with_history(pairs)
    with pytest.raises(Unsupported, match="there is no min"):
        comparison.with_history(pairs, metric="min")


@pytest.mark.parametrize(("status", "level"), [(0, None), (1, None), (2, "INVALID"), (6, "INVALID")])
def test_heat_that_android_reports_counts_from_moderate_on(
    make_result: MakeResult, status: int, level: str | None
) -> None:
    hot = Conditions(thermal_status=status)
    assert codes(make_result(trials=trials(6, before=hot, after=hot))).get("THERMAL") == level


def test_faked_figures_of_the_battery_are_invalid(make_result: MakeResult) -> None:
    faked = Conditions(faked=True)
    assert codes(make_result(trials=trials(6, before=Conditions(faked=False), after=faked)))["FAKED"] == "INVALID"


def test_a_delegate_of_unknown_share_is_a_doubt(make_result: MakeResult) -> None:
    placed = Placement(delegate="GPU", nodes_taken=None, nodes=9, partitions=3)
    (reason, *_) = validity.judge(make_result(trials=trials(6, placement=placed))).reasons
    assert (reason.code, reason.level) == ("FALLBACK", "SEMI")
    assert reason.detail == "GPU runs an unknown share of the nodes in 3 partitions"
