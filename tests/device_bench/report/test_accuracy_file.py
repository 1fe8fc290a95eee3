"""What `eval --json` printed is read back, and nothing else is taken for it."""

import json
from pathlib import Path
from typing import Any

import pytest

from evit_edge.device_bench.report import accuracy_file
from evit_edge.models.errors import FileProblem

from ..conftest import MakeResult


def row(**changes: Any) -> dict[str, Any]:
    known = {
        "digest": "4" * 64,
        "model_digest": "2" * 64,
        "runtime": "onnxruntime",
        "top1": {"right": 9, "count": 10, "share": 0.9, "low": 0.5, "high": 0.98},
    }
    return known | changes


def written(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"data": {"count": 10}, "rows": rows}))
    return path


def test_each_row_is_that_of_its_file_and_runtime(tmp_path: Path, make_result: MakeResult) -> None:
    original = row(digest=None, runtime="torch", top1={"right": 10, "count": 10})
    found = accuracy_file.read(written(tmp_path / "eval.json", row(), original))
    of_file = found.of(make_result())
    of_original = found.of(make_result(target=None, artifact_digest=None, runtime="torch"))
    assert of_file is not None
    assert of_original is not None
    assert (of_file.share, of_original.share) == (0.9, 1.0)
    assert found.of(make_result(runtime="litert")) is None
    assert found.of(make_result(artifact_digest="5" * 64)) is None


def test_a_row_without_a_runtime_is_of_any(tmp_path: Path, make_result: MakeResult) -> None:
    found = accuracy_file.read(written(tmp_path / "eval.json", row(runtime=None)))
    assert found.of(make_result(runtime="litert")) is not None


def test_a_row_that_failed_has_no_accuracy(tmp_path: Path, make_result: MakeResult) -> None:
    assert accuracy_file.read(written(tmp_path / "eval.json", row(top1=None))).of(make_result()) is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        "not JSON",
        '{"rows": [{}]}',
        json.dumps({"rows": [row(top1={"right": 11, "count": 10})]}),
        json.dumps({"rows": [row(top1={"right": 0, "count": 0})]}),
    ],
)
def test_another_file_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(FileProblem, match="is not what eval prints") as refusal:
        accuracy_file.read(path)
    assert str(path) in refusal.value.message
    assert "evit-edge eval" in refusal.value.hint


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match=r"none\.json cannot be read"):
        accuracy_file.read(tmp_path / "none.json")
