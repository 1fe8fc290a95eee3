"""A results file gives back what was put in, and anything else is refused with the line it stands in."""

import json
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from evit_edge.device_bench.record import Failure
from evit_edge.device_bench.result import (
    Result,
    append,
    read,
    require_writable,
    schema,
)
from evit_edge.models.errors import BadArtifact, FileProblem

from .conftest import MakeResult, make_trial
from .made_results import results


@given(st.lists(results, min_size=1, max_size=3))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_what_is_appended_is_what_is_read(tmp_path: Path, written: list[Result]) -> None:
    path = tmp_path / "results.jsonl"
    path.unlink(missing_ok=True)
    for result in written:
        append(path, result)
    assert read(path) == written
    assert len(path.read_bytes().splitlines()) == len(written)


def test_the_published_schema_is_the_one_in_use() -> None:
    published = Path(__file__).parents[2] / "docs" / "results.schema.json"
    assert json.loads(published.read_text()) == schema()


def test_a_line_is_json_of_the_published_schema(tmp_path: Path, make_result: MakeResult) -> None:
    path = tmp_path / "results.jsonl"
    append(path, make_result())
    append(path, make_result(failure=Failure(kind="BadArtifact", message="gone"), trials=(), memory=None))
    jsonschema.Draft202012Validator.check_schema(schema())
    for line in path.read_text().splitlines():
        jsonschema.validate(json.loads(line), schema())


def test_an_empty_file_has_no_results_and_can_be_added_to(tmp_path: Path, make_result: MakeResult) -> None:
    path = tmp_path / "results.jsonl"
    path.touch()
    assert read(path) == []
    append(path, make_result())
    assert len(read(path)) == 1


def damaged(line: str, **changes: Any) -> str:
    return json.dumps(json.loads(line) | changes)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda line: line[: len(line) // 2], "Invalid JSON"),
        (lambda line: "model,latency", "Invalid JSON"),
        (lambda line: "", "Invalid JSON"),
        (lambda line: "\udcff\udcfe", "line 2 is not a result"),
        (lambda line: '{"benchmark": "other", "mean": 1.0}', "Field required"),
        (lambda line: damaged(line, schema=3), "schema"),
        (lambda line: damaged(line, colour="red"), "colour"),
        (lambda line: damaged(line, threads=0), "threads"),
        (lambda line: damaged(line, memory={"before_bytes": 1, "peak_bytes": float("nan")}), "memory.peak_bytes"),
        (
            lambda line: damaged(line, parity={"engine": "x", "passed": True, "cosine": float("nan"), "top1": 1}),
            "cosine",
        ),
        (lambda line: line.replace('"samples_ns":[', '"samples_ns":[NaN,'), "samples_ns"),
        (lambda line: line.replace('"first_ns":', '"first_ns":-'), "first_ns"),
        (lambda line: line.replace('Z"', '"'), "started"),
    ],
    ids=[
        "cut in the middle",
        "a CSV",
        "an empty line",
        "not text",
        "another tool's",
        "a later schema",
        "an unknown field",
        "no threads",
        "NaN bytes",
        "NaN cosine",
        "NaN nanoseconds",
        "negative time",
        "a date without a zone",
    ],
)
def test_a_line_that_is_no_result_is_named_by_its_number(
    tmp_path: Path, make_result: MakeResult, damage: Any, says: str
) -> None:
    path = tmp_path / "results.jsonl"
    line = make_result().model_dump_json(by_alias=True)
    path.write_bytes(f"{line}\n{damage(line)}\n{line}\n".encode(errors="surrogateescape"))
    with pytest.raises(FileProblem, match="line 2") as caught:
        read(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_last_line_that_was_cut_off_is_said_to_be_and_not_added_to(tmp_path: Path, make_result: MakeResult) -> None:
    path = tmp_path / "results.jsonl"
    line = make_result().model_dump_json(by_alias=True)
    path.write_text(f"{line}\n{line[:100]}")
    with pytest.raises(FileProblem, match="line 2 is cut off"):
        read(path)
    with pytest.raises(FileProblem, match="cut off"):
        append(path, make_result())
    with pytest.raises(FileProblem, match="cut off"):
        require_writable(path)
    assert path.read_text() == f"{line}\n{line[:100]}"


@pytest.mark.parametrize("content", ["my notes\n", "my notes", '{"a": 1}\n', "\0" * 1000])
def test_a_file_of_something_else_is_left_as_it_is(tmp_path: Path, make_result: MakeResult, content: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(content)
    with pytest.raises(FileProblem, match="line 1"):
        append(path, make_result())
    with pytest.raises(FileProblem, match="line 1"):
        require_writable(path)
    assert path.read_text() == content


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, make_result: MakeResult) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "no" / "such" / "folder.jsonl", tmp_path / "file" / "results.jsonl"):
        with pytest.raises(FileProblem, match=str(path)):
            append(path, make_result())
        with pytest.raises(FileProblem, match=str(path)):
            require_writable(path)


def test_asking_whether_a_place_can_be_written_leaves_no_trace(tmp_path: Path, make_result: MakeResult) -> None:
    require_writable(tmp_path / "new.jsonl")
    assert list(tmp_path.iterdir()) == []
    append(tmp_path / "old.jsonl", make_result())
    before = (tmp_path / "old.jsonl").stat()
    require_writable(tmp_path / "old.jsonl")
    assert (tmp_path / "old.jsonl").stat()[stat.ST_SIZE] == before.st_size


@contextmanager
def files_no_larger_than(size_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_leaves_the_earlier_lines_whole(tmp_path: Path, make_result: MakeResult) -> None:
    path = tmp_path / "results.jsonl"
    append(path, make_result())
    whole = path.read_bytes()
    for room in (0, 1, len(whole) - 1):
        with files_no_larger_than(len(whole) + room), pytest.raises(FileProblem, match="cannot be written"):
            append(path, make_result())
        assert path.read_bytes() == whole


def test_a_figure_that_not_all_samples_have_is_refused() -> None:
    with pytest.raises(ValidationError, match="a figure of each sample"):
        make_trial(cpu_ns=(1, 2))
    with pytest.raises(ValidationError, match="a figure of each sample"):
        make_trial(switches=(1, 2, 3, 4))


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="evit-edge bench"):
        read(tmp_path / "results.jsonl")


def test_a_failure_becomes_the_same_error_again() -> None:
    error = Failure.of(BadArtifact("gone", "convert again")).error()
    assert type(error) is BadArtifact
    assert (error.message, error.hint) == ("gone", "convert again")


def test_a_result_says_whether_it_failed(make_result: MakeResult) -> None:
    assert make_result().status == "ok"
    assert make_result(failure=Failure(kind="DeviceFailed", message="gone")).status == "failed"


def test_dates_keep_their_instant(tmp_path: Path, make_result: MakeResult) -> None:
    started = datetime(2025, 1, 1, 12, tzinfo=UTC) + timedelta(microseconds=1)
    append(tmp_path / "results.jsonl", make_result(started=started))
    assert read(tmp_path / "results.jsonl")[0].started == started


def test_a_line_of_the_first_schema_is_read(tmp_path: Path, make_result: MakeResult) -> None:
    path = tmp_path / "results.jsonl"
    line = make_result().model_dump(mode="json", by_alias=True) | {"schema": 1}
    for trial in line["trials"]:
        del trial["seconds"]
        for name in ("placement", "cpu_ns", "switches", "before", "after", "cores", "input_dtypes", "inputs_sha256"):
            del trial["timing"][name]
    for name in ("energy", "sustained", "artifact_path"):
        del line[name]
    path.write_text(json.dumps(line) + "\n")
    assert read(path) == [make_result(schema=1)]
    jsonschema.validate(line, schema())
