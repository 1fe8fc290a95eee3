"""What people read of a row, and that no text in a result can break a table."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
from rich.cells import cell_len

from evit_edge.device_bench.accuracy import wilson
from evit_edge.device_bench.record import Failure, Placement
from evit_edge.device_bench.report import summary, table
from evit_edge.device_bench.report.accuracy_file import Accuracies
from evit_edge.device_bench.report.summary import Row
from evit_edge.device_bench.result import Parity, Result

from ..conftest import DEVICE, MakeResult, make_trial
from .comparisons import comparison

TFLITE = DEVICE.model_copy(update={"versions": {"ai-edge-litert": "2.1.0", "tflite-runtime": "2.14.0"}})
ORIGINAL = {"target": None, "artifact_digest": None, "size_bytes": None, "parity": None, "runtime": "torch"}


def shown(result: Result, *, accuracies: Sequence[Accuracies] = ()) -> dict[str, str]:
    (row,) = summary.rows([result], accuracies=accuracies)
    return {column.heading: column.text(row) for column in table.COLUMNS}


def test_a_person_reads_figures_under_headings_with_units(make_result: MakeResult) -> None:
    found = shown(make_result())
    assert found["latency ms [95 %]"] == "2.000 [2.000, 2.000]"
    assert found["img/s"] == "500.0"
    assert found["parity (cosine, top-1)"] == "pass (0.9999999, 100.0 %)"
    assert found["memory MiB (process)"] == "40.00 (100.0)"
    assert found["validity"] == "VALID"
    assert found["p90 ms"] == "— (n=18)"
    assert found["disturbed %"] == found["energy mJ"] == "—"


def test_accuracy_has_its_interval(make_result: MakeResult) -> None:
    accuracies = Accuracies(shares={("4" * 64, "onnxruntime"): wilson(90, 100)})
    assert shown(make_result(), accuracies=[accuracies])["top-1 % [95 %]"] == "90.00 [82.56, 94.48]"
    assert shown(make_result())["top-1 % [95 %]"] == "—"


def test_percentiles_have_the_end_they_stay_under(make_result: MakeResult) -> None:
    found = shown(make_result(trials=(make_trial(samples_ns=tuple(range(1_000_000, 2_000_000, 10_000))),)))
    assert found["p90 ms"] == "1.890 (≤ 1.960)"


def test_an_interval_that_is_worth_less_than_95_per_cent_says_so(make_result: MakeResult) -> None:
    trials = tuple(make_trial(n, samples_ns=(2_000_000 + 100_000 * n,)) for n in range(10))
    text = shown(make_result(trials=trials))["latency ms [95 %]"]
    assert text.startswith("2.450 [2.000, 2.900; ")
    assert float(text.split("; ")[1].removesuffix(" %]")) < 95


def test_doubts_stand_beside_the_figures_by_their_codes(make_result: MakeResult) -> None:
    few = tuple(make_trial(n, warm_up_converged=False) for n in range(3))
    assert shown(make_result(trials=few))["validity"] == "INVALID: TOO_FEW, WARM_UP"


def test_the_original_is_not_passed_off_as_the_artifact(make_result: MakeResult) -> None:
    found = shown(make_result(**ORIGINAL))
    assert found["target"] == "original"
    assert found["size MiB"] == found["parity (cosine, top-1)"] == "—"


def test_a_failed_cell_is_a_row_with_its_reason(make_result: MakeResult) -> None:
    failure = Failure(kind="DeviceFailed", message="was killed by SIGABRT", hint="less")
    found = shown(make_result(trials=(), memory=None, failure=failure))
    assert found["validity"] == "failed: was killed by SIGABRT"
    assert found["latency ms [95 %]"] == found["img/s"] == found["memory MiB (process)"] == found["p90 ms"] == "—"


def test_a_parity_that_failed_says_so_and_is_never_rounded_up(make_result: MakeResult) -> None:
    parity = Parity(engine="onnxruntime", passed=False, cosine=0.99999999, top1=0.97)
    assert shown(make_result(parity=parity))["parity (cosine, top-1)"] == "fail (0.9999999, 97.0 %)"


@pytest.mark.parametrize("name", ["a|b", "a\\|b", "a\nb", 'a"b,c', "=1+1", "ﬀ", ""])
def test_a_name_cannot_break_a_table(make_result: MakeResult, name: str) -> None:
    rows = summary.rows([make_result(model=name), make_result()])
    lines = table.markdown(rows).splitlines()
    assert len(lines) == 4
    plain = [line.replace("\\\\", "").replace("\\|", "") for line in lines]
    assert {line.count("|") for line in plain} == {len(table.columns("short", "usual")) + 1}
    assert next(csv.DictReader(io.StringIO(table.csv(rows), newline="")))["model"] == name
    assert json.loads(table.json(rows))[0]["model"] == name


def test_csv_and_json_have_the_fields_of_a_row_and_nothing_where_there_is_none(make_result: MakeResult) -> None:
    names = [field.name for field in fields(Row)]
    rows = summary.rows([make_result(**ORIGINAL, trials=(make_trial(0), make_trial(1)))])
    (line,) = csv.DictReader(io.StringIO(table.csv(rows)))
    (found,) = json.loads(table.json(rows))
    assert list(line) == list(found) == names
    assert line["size_mib"] == ""
    assert found["size_mib"] is None
    assert float(line["latency_ms"]) == found["latency_ms"] == 2.0
    assert line["process_medians_ms"] == "2.0; 2.0"
    assert found["process_medians_ms"] == [2.0, 2.0]
    assert line["reasons"].startswith("TOO_FEW: 2 processes")
    assert found["reasons"][0]["code"] == "TOO_FEW"


def test_no_results_are_an_empty_table() -> None:
    assert len(table.markdown([]).splitlines()) == 2
    assert len(table.csv([]).splitlines()) == 1
    assert json.loads(table.json([])) == []
    assert table.narrow([]) == ("", [column.heading for column in table.columns("short")], [])


def test_the_legend_names_each_device_and_its_engines_once(make_result: MakeResult) -> None:
    lines = table.legend([make_result(), make_result(), make_result(runtime="torch")]).splitlines()
    assert len(lines) == 2
    assert "median" in lines[0]
    assert lines[1].endswith("onnxruntime 1.2.3, torch 2.3.4")
    assert "virtualised" in lines[1]


def test_a_screen_shows_once_what_all_rows_share(make_result: MakeResult) -> None:
    caption, headings, lines = table.narrow(summary.rows([make_result(threads=1), make_result(threads=2)]))
    assert "batch 1" in caption
    assert "threads" not in caption
    assert "threads" in headings
    assert "batch" not in headings
    assert [line[headings.index("threads")] for line in lines] == ["1", "2"]


def test_a_comparison_of_a_model_fits_a_screen_of_100_columns() -> None:
    caption, headings, lines = table.narrow(summary.rows(comparison()))
    assert {"latency ms [95 %]", "validity"} <= set(headings)
    # What is long in the last column is folded.
    assert headings[-1] == "validity"
    widths = [max(map(cell_len, column)) for column in zip(headings, *lines, strict=True)]
    assert sum(widths[:-1]) + len(widths) + len("INVALID:") <= 100
    assert caption == "device local, model linear, weights seeded"


def test_details_have_what_the_screen_leaves_out_and_why(make_result: MakeResult) -> None:
    (row,) = summary.rows([make_result(trials=tuple(make_trial(n) for n in range(5)), command=("evit-edge", "a b"))])
    text = table.details(row)
    assert text.splitlines()[0] == "linear seeded, onnx fp32, onnxruntime 1.2.3, 1 threads, batch 1"
    assert "size MiB 1.000; processes 5; samples 15" in text
    assert "TOO_FEW: 5 processes" in text
    assert text.splitlines()[-1] == "  evit-edge 'a b'"


@pytest.mark.parametrize(
    ("runtime", "placement", "says"),
    [
        (
            "litert",
            Placement(delegate="XNNPACK", nodes_taken=430, nodes=433, partitions=2),
            "LiteRT 2.1.0, XNNPACK 430/433",
        ),
        ("litert", None, "LiteRT 2.1.0"),
        (
            "tflite",
            Placement(delegate="XNNPACK", nodes_taken=0, nodes=9, partitions=0),
            "tflite-runtime 2.14.0, XNNPACK 0/9",
        ),
        (
            "tflite_builtin",
            Placement(delegate=None, nodes_taken=0, nodes=9, partitions=0),
            "tflite-runtime 2.14.0, no XNNPACK",
        ),
        ("onnxruntime", None, "onnxruntime"),
        ("of_another_time", None, "of_another_time"),
    ],
)
def test_an_engine_is_named_with_its_version_and_its_delegates_share(
    make_result: MakeResult, runtime: str, placement: Placement | None, says: str
) -> None:
    result = make_result(runtime=runtime, device=TFLITE, trials=(make_trial(), make_trial(1, placement=placement)))
    (row,) = summary.rows([result])
    assert shown(result)["runtime"] == says
    assert row.runtime == runtime
    assert row.nodes == (placement and placement.nodes)
    assert row.delegate_partitions == (placement and placement.partitions)


def test_the_legend_explains_a_delegates_share_where_there_is_one(make_result: MakeResult) -> None:
    placement = Placement(delegate="XNNPACK", nodes_taken=430, nodes=433, partitions=2)
    delegated = make_result(runtime="litert", device=TFLITE, trials=(make_trial(placement=placement),))
    meaning, where = table.legend([delegated, make_result(runtime="litert_builtin", device=TFLITE)]).splitlines()
    assert "XNNPACK n/m: nodes" in meaning
    assert where.endswith("; ai-edge-litert 2.1.0")
    assert "XNNPACK" not in table.legend([make_result()])


def test_json_is_of_the_published_schema(make_result: MakeResult) -> None:
    published = Path(__file__).parents[3] / "docs" / "report.schema.json"
    assert json.loads(published.read_text()) == table.schema()
    results = [make_result(), make_result(failure=Failure(kind="BadArtifact", message="gone"), trials=(), memory=None)]
    jsonschema.validate(json.loads(table.json(summary.rows(results))), table.schema())
