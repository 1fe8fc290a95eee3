"""The figures of a row: each from the raw record, each None where there is nothing to compute it from."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evit_edge.device_bench.accuracy import wilson
from evit_edge.device_bench.record import Energy, Failure, Memory, Sustained
from evit_edge.device_bench.report import latex, page, summary, table
from evit_edge.device_bench.report.accuracy_file import Accuracies
from evit_edge.device_bench.report.summary import Row
from evit_edge.device_bench.result import Parity, Result, read

from ..conftest import MakeResult, make_trial
from .comparisons import comparison

FORMATS = ("markdown", "csv", "json", "latex", "html")


def only(result: Result, **options: Any) -> Row:
    (row,) = summary.rows([result], **options)
    return row


def test_a_row_has_the_figures_in_their_units(make_result: MakeResult) -> None:
    trials = tuple(make_trial(n, samples_ns=(4_000_000 + n * 40_000, 3_000_000, 5_000_000), block=2) for n in range(6))
    memory = Memory(before_bytes=60 * 2**20, peak_bytes=100 * 2**20)
    row = only(make_result(trials=trials, batch=16, memory=memory, size_bytes=9 * 2**20))
    assert row.latency_ms == pytest.approx(2.05)
    assert row.images_per_s == pytest.approx(16 / 2.05e-3)
    assert (row.load_ms, row.first_ms) == (30, 6)
    assert (row.memory_mib, row.process_memory_mib, row.size_mib) == (40, 100, 9)
    assert (row.parity_passed, row.parity_cosine, row.parity_top1) == (True, 0.99999991, 1.0)
    assert (row.processes, row.samples, row.block) == (6, 18, 2)
    assert (row.status, row.reason) == ("ok", "")
    assert (row.min_ms, row.mean_ms) == pytest.approx((1.5, 2.016667), abs=1e-6)
    assert row.process_medians_ms == pytest.approx((2.0, 2.02, 2.04, 2.06, 2.08, 2.1))


def test_trials_count_in_the_order_they_ran(make_result: MakeResult) -> None:
    trials = tuple(make_trial(n, samples_ns=(1_000_000 * (n + 1),)) for n in (3, 0, 5, 1, 4, 2))
    assert only(make_result(trials=trials)).process_medians_ms == (1, 2, 3, 4, 5, 6)


def test_percentiles_are_there_from_as_many_samples_as_bound_them(make_result: MakeResult) -> None:
    def row(count: int) -> Row:
        return only(make_result(trials=(make_trial(samples_ns=tuple(range(1_000_000, 1_000_000 + count))),)))

    assert row(63).p90_ms is row(63).p90_upper_ms is None
    assert row(64).p90_ms == pytest.approx(1.000057)
    assert row(129).p95_ms is row(661).p99_ms is row(662).p999_ms is None
    found = row(662)
    assert None not in (found.p99_ms, found.p99_upper_ms)
    assert (found.p95_ms or 0) < (found.p95_upper_ms or 0) < (found.p99_upper_ms or 0)


def test_disturbed_samples_are_counted_and_left_out_beside_all(make_result: MakeResult) -> None:
    samples, cpu = (2_000_000, 9_000_000, 2_100_000, 8_000_000), (2_000_000, 2_000_000, 2_100_000, 8_000_000)
    trials = tuple(make_trial(n, samples_ns=samples, cpu_ns=cpu, switches=(0, 0, 0, 1)) for n in range(6))
    row = only(make_result(trials=trials))
    assert row.disturbed == 0.5
    assert row.latency_ms == pytest.approx(5.05)
    assert row.undisturbed_ms == pytest.approx(2.05)
    assert only(make_result(trials=trials, threads=2)).disturbed == 0.25


def test_energy_is_of_one_call_and_names_its_source(make_result: MakeResult) -> None:
    energy = Energy(source="RAPL package-0", inferences=50, joules=(1.0, 9.0, 2.0), idle_watts=3.0)
    row = only(make_result(energy=energy))
    assert (row.energy_mj, row.energy_source) == (40.0, "RAPL package-0")


def test_lasting_load_has_its_last_minute_against_the_first(make_result: MakeResult) -> None:
    load = Sustained(window_s=10, medians_ns=(2e6,) * 8 + (3e6,) * 6, calls=(9,) * 14, temperatures_c=(None,) * 14)
    row = only(make_result(sustained=load))
    assert (row.sustained_ratio, row.throttled_after_s) == (1.5, 80)


def test_five_processes_have_a_median_and_no_interval(make_result: MakeResult) -> None:
    row = only(make_result(trials=tuple(make_trial(n) for n in range(5))))
    assert row.latency_ms == 2
    assert row.latency_low_ms is row.latency_high_ms is row.latency_coverage is None
    assert row.validity == "SEMI"
    assert [reason.code for reason in row.reasons] == ["TOO_FEW"]


def test_a_failed_cell_has_no_figures_and_its_reason(make_result: MakeResult) -> None:
    failure = Failure(kind="DeviceFailed", message="was killed by SIGABRT", hint="less")
    row = only(make_result(trials=(), memory=None, failure=failure))
    assert row.latency_ms is row.load_ms is row.memory_mib is row.images_per_s is row.p90_ms is row.disturbed is None
    assert (row.samples, row.processes, row.process_medians_ms) == (0, 0, ())
    assert (row.status, row.validity, row.reason) == ("failed", "INVALID", "was killed by SIGABRT")


def steady(milliseconds: float, **changes: Any) -> dict[str, Any]:
    """Six processes whose interval is 1 % to either side."""
    medians = [int(1e6 * milliseconds * (1 + off / 100)) for off in (-1, 1, 0, 0.4, -0.4, 0.2)]
    return {"trials": tuple(make_trial(n, samples_ns=(ns,)) for n, ns in enumerate(medians)), **changes}


def test_the_fastest_is_marked_with_all_that_cannot_be_told_from_it(make_result: MakeResult) -> None:
    found = summary.rows([make_result(**steady(ms)) for ms in (3.0, 2.0, 2.015, 2.2)])
    assert [row.fastest for row in found] == [False, True, True, False]


def test_nothing_is_the_fastest_where_nothing_is_told_apart(make_result: MakeResult) -> None:
    assert not any(row.fastest for row in summary.rows([make_result(**steady(ms)) for ms in (2.0, 2.01)]))
    assert not only(make_result(**steady(2.0))).fastest


def test_nothing_is_the_fastest_beside_a_lower_median_without_an_interval(make_result: MakeResult) -> None:
    few = tuple(make_trial(n, samples_ns=(1_000_000,)) for n in range(5))
    found = summary.rows([make_result(trials=few), make_result(**steady(2.0)), make_result(**steady(3.0))])
    assert [row.fastest for row in found] == [False, False, False]
    slow = tuple(make_trial(n, samples_ns=(9_000_000,)) for n in range(5))
    found = summary.rows([make_result(trials=slow), make_result(**steady(2.0))])
    assert [row.fastest for row in found] == [False, True]
    close = tuple(make_trial(n, samples_ns=(2_010_000,)) for n in range(5))
    found = summary.rows([make_result(trials=close), make_result(**steady(2.0)), make_result(**steady(3.0))])
    assert [row.fastest for row in found] == [True, True, False]


def test_sessions_and_batches_do_not_compete(make_result: MakeResult) -> None:
    others = [make_result(**steady(1.0, session="t")), make_result(**steady(1.5, batch=4))]
    found = summary.rows([make_result(**steady(2.0)), make_result(**steady(3.0)), *others])
    assert [row.fastest for row in found] == [True, False, False, False]


def test_what_is_invalid_failed_or_wrong_is_never_the_fastest(make_result: MakeResult) -> None:
    wild = tuple(make_trial(n, samples_ns=(ns,)) for n, ns in enumerate((100, 200, 300, 400, 500, 600)))
    wrong = Parity(engine="onnxruntime", passed=False, cosine=0.1, top1=0.1)
    failure = Failure(kind="DeviceFailed", message="it broke")
    doubtful = [
        make_result(trials=wild),
        make_result(**steady(1, failure=failure)),
        make_result(**steady(1, parity=wrong)),
    ]
    found = summary.rows([*doubtful, make_result(**steady(2)), make_result(**steady(3))])
    assert [row.ranked for row in found] == [False, False, False, True, True]
    assert [row.fastest for row in found] == [False, False, False, True, False]


def test_accuracy_is_that_of_the_same_file_in_the_same_runtime(make_result: MakeResult) -> None:
    shares = {("4" * 64, "onnxruntime"): wilson(90, 100), ("2" * 64, None): wilson(95, 100)}
    accuracies = [Accuracies(shares=shares)]
    row = only(make_result(), accuracies=accuracies)
    assert (row.top1, row.top1_images) == (0.9, 100)
    assert (row.top1_low, row.top1_high) == pytest.approx((0.8256, 0.9448), abs=1e-4)
    assert only(make_result(runtime="onnxruntime_exact"), accuracies=accuracies).top1 is None
    assert only(make_result(target=None, artifact_digest=None), accuracies=accuracies).top1 == 0.95
    # A file that was never made is not the original.
    assert only(make_result(artifact_digest=None), accuracies=accuracies).top1 is None


def text(form: str, results: list[Result]) -> str:
    rows = summary.rows(results)
    if form == "html":
        return page.render(results, rows)
    return latex.latex(rows) if form == "latex" else str(getattr(table, form)(rows))


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_file_is_the_same_report_byte_for_byte(form: str) -> None:
    results = comparison(1)[::5]
    again = [Result.model_validate_json(result.model_dump_json(by_alias=True)) for result in results]
    assert text(form, results) == text(form, again)


OLD = Path(__file__).parent / "results_schema_1.jsonl"


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_of_schema_1_still_reports_in_every_format(form: str) -> None:
    results = read(OLD)
    assert [json.loads(line)["schema"] for line in OLD.read_text().splitlines()] == [1, 1]
    assert text(form, results) == text(form, read(OLD))
    row, failed = summary.rows(results)
    assert row.latency_ms == pytest.approx(2.0035)
    assert row.disturbed is row.undisturbed_ms is row.energy_mj is row.sustained_ratio is None
    assert failed.status == "failed"


@settings(max_examples=50)
@given(
    st.lists(st.lists(st.integers(1, 10**12), min_size=1, max_size=30), min_size=1, max_size=9),
    st.integers(1, 4),
    st.integers(1, 64),
)
def test_whatever_was_measured_the_figures_are_in_order(samples: list[list[int]], block: int, batch: int) -> None:
    trials = tuple(make_trial(n, samples_ns=tuple(each), block=block) for n, each in enumerate(samples))
    result = comparison_of(trials, batch)
    row = only(result)
    assert (row.min_ms or 0) <= (row.latency_ms or 0) <= max(max(each) for each in samples) / 1e6
    if row.latency_low_ms is not None:
        assert row.latency_low_ms <= (row.latency_ms or 0) <= (row.latency_high_ms or 0)
    assert row.images_per_s == pytest.approx(1e3 * batch / (row.latency_ms or 0))
    assert 0 <= (row.outliers or 0) <= row.samples == sum(map(len, samples))


BASIS = comparison(2)[0]


def comparison_of(trials: tuple[Any, ...], batch: int) -> Result:
    return BASIS.model_copy(update={"trials": trials, "batch": batch})
