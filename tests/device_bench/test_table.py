"""The figures of a row, and that no text in a result can break a table."""

import csv
import io
import json
from dataclasses import fields

import pytest

from evit_edge.device_bench import table
from evit_edge.device_bench.result import Failure, Memory, Parity, Placement
from evit_edge.device_bench.table import Row

from .conftest import DEVICE, MakeResult, make_trial

TFLITE = DEVICE.model_copy(update={"versions": {"ai-edge-litert": "2.1.0", "tflite-runtime": "2.14.0"}})
ORIGINAL = {"target": None, "artifact_digest": None, "size_bytes": None, "parity": None, "runtime": "torch"}


def test_a_row_has_the_figures_in_their_units(make_result: MakeResult) -> None:
    trials = tuple(make_trial(n, samples_ns=(4_000_000 + n * 40_000, 3_000_000, 5_000_000), block=2) for n in range(6))
    memory = Memory(before_bytes=60 * 2**20, peak_bytes=100 * 2**20)
    (row,) = table.rows([make_result(trials=trials, batch=16, memory=memory, size_bytes=9 * 2**20)])
    assert row.latency_ms == pytest.approx(2.05)
    assert (row.latency_low_ms, row.latency_high_ms) == pytest.approx((2.0, 2.1))
    assert row.images_per_s == pytest.approx(16 / 2.05e-3)
    assert (row.load_ms, row.first_ms) == (30, 6)
    assert (row.memory_mib, row.process_memory_mib, row.size_mib) == (40, 100, 9)
    assert (row.parity_passed, row.parity_cosine, row.parity_top1) == (True, 0.99999991, 1.0)
    assert (row.processes, row.status, row.reason) == (6, "ok", "")


def test_a_person_reads_them_under_headings_with_units(make_result: MakeResult) -> None:
    (row,) = table.rows([make_result()])
    shown = dict(zip(table.columns(), table.cells(row), strict=True))
    assert shown["latency ms [95 %]"] == "2.000 [2.000, 2.000]"
    assert shown["img/s"] == "500.0"
    assert shown["parity (cosine, top-1)"] == "pass (0.9999999, 100.0 %)"
    assert shown["peak memory MiB (process)"] == "40.00 (100.0)"
    assert shown["status"] == "ok"


def test_five_processes_have_a_median_and_no_interval(make_result: MakeResult) -> None:
    (row,) = table.rows([make_result(trials=tuple(make_trial(n) for n in range(5)))])
    assert row.latency_ms == 2
    assert row.latency_low_ms is None
    assert table.cells(row)[table.columns().index("latency ms [95 %]")] == "2.000"


def test_the_original_is_not_passed_off_as_the_artifact(make_result: MakeResult) -> None:
    (row,) = table.rows([make_result(**ORIGINAL)])
    shown = dict(zip(table.columns(), table.cells(row), strict=True))
    assert shown["target"] == "original"
    assert shown["size MiB"] == shown["parity (cosine, top-1)"] == "—"


def test_a_failed_cell_is_a_row_with_its_reason(make_result: MakeResult) -> None:
    failure = Failure(kind="DeviceFailed", message="was killed by SIGABRT", hint="less")
    (row,) = table.rows([make_result(trials=(), memory=None, failure=failure)])
    assert row.latency_ms is row.load_ms is row.memory_mib is row.images_per_s is None
    assert table.cells(row)[-1] == "failed: was killed by SIGABRT"
    assert table.cells(row).count("—") == 5


def test_a_parity_that_failed_says_so_and_is_never_rounded_up(make_result: MakeResult) -> None:
    parity = Parity(engine="onnxruntime", passed=False, cosine=0.99999999, top1=0.97)
    (row,) = table.rows([make_result(parity=parity)])
    assert "fail (0.9999999, 97.0 %)" in table.cells(row)


@pytest.mark.parametrize("name", ["a|b", "a\\|b", "a\nb", 'a"b,c', "=1+1", "ﬀ", ""])
def test_a_name_cannot_break_a_table(make_result: MakeResult, name: str) -> None:
    results = [make_result(model=name), make_result()]
    lines = table.markdown(results).splitlines()
    assert len(lines) == 4
    plain = [line.replace("\\\\", "").replace("\\|", "") for line in lines]
    assert {line.count("|") for line in plain} == {len(table.columns()) + 1}
    assert next(csv.DictReader(io.StringIO(table.csv(results), newline="")))["model"] == name
    assert json.loads(table.json(results))[0]["model"] == name


def test_csv_and_json_have_the_fields_of_a_row_and_nothing_where_there_is_none(make_result: MakeResult) -> None:
    names = [field.name for field in fields(Row)]
    results = [make_result(**ORIGINAL)]
    (line,) = csv.DictReader(io.StringIO(table.csv(results)))
    (found,) = json.loads(table.json(results))
    assert list(line) == list(found) == names
    assert line["size_mib"] == ""
    assert found["size_mib"] is None
    assert float(line["latency_ms"]) == found["latency_ms"] == 2.0


def test_no_results_are_an_empty_table() -> None:
    assert len(table.markdown([]).splitlines()) == 2
    assert len(table.csv([]).splitlines()) == 1
    assert json.loads(table.json([])) == []


def test_the_legend_names_each_device_and_its_engines_once(make_result: MakeResult) -> None:
    lines = table.legend([make_result(), make_result(), make_result(runtime="torch")]).splitlines()
    assert len(lines) == 2
    assert "median" in lines[0]
    assert lines[1].endswith("onnxruntime 1.2.3, torch 2.3.4")
    assert "virtualised" in lines[1]


def test_a_screen_shows_once_what_all_rows_share(make_result: MakeResult) -> None:
    caption, headings, lines = table.narrow([make_result(threads=1), make_result(threads=2)])
    assert "batch 1" in caption
    assert "threads" not in caption
    assert "threads" in headings
    assert "batch" not in headings
    assert [line[headings.index("threads")] for line in lines] == ["1", "2"]
    assert table.narrow([]) == ("", table.columns(), [])


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
    (row,) = table.rows([result])
    assert table.cells(row)[table.columns().index("runtime")] == says
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
