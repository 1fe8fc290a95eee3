"""`evit-edge report` as a user meets it."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ..device_bench.report.comparisons import comparison

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("results") / "results.jsonl"
    file.write_text("".join(f"{result.model_dump_json(by_alias=True)}\n" for result in comparison()[::6]))
    return file


def evaluated(path: Path, digest: str) -> Path:
    row = {"digest": digest, "model_digest": "2" * 64, "runtime": "onnxruntime", "top1": {"right": 90, "count": 100}}
    path.write_text(json.dumps({"data": {}, "rows": [row]}))
    return path


def test_the_page_is_the_same_every_time_and_in_the_file_that_was_named(
    evit_edge: Run, results: Path, tmp_path: Path
) -> None:
    file = tmp_path / "report.html"
    done = evit_edge("report", results, "--format", "html", "--out", file, env=os.environ | {"PYTHONHASHSEED": "1"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    again = evit_edge("report", results, "--format", "html", env=os.environ | {"PYTHONHASHSEED": "2"})
    assert again.stdout == file.read_text()
    assert list(tmp_path.iterdir()) == [file]


def test_accuracy_stands_beside_the_same_file_and_one_of_nothing_here_is_said(
    evit_edge: Run, results: Path, tmp_path: Path
) -> None:
    ours, other = evaluated(tmp_path / "ours.json", f"{1:064d}"), evaluated(tmp_path / "other.json", "f" * 64)
    done = evit_edge("report", results, "--json", "--accuracy", ours, "--accuracy", other)
    assert done.returncode == 0
    rows = json.loads(done.stdout)
    assert {row["artifact_digest"]: row["top1"] for row in rows}[f"{1:064d}"] == 0.9
    assert [row["top1"] for row in rows].count(None) == len(rows) - 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{other} has no accuracy of any row here")


def test_a_screen_has_doubts_and_intervals_and_on_demand_the_rest(evit_edge: Run, results: Path) -> None:
    short = evit_edge("report", results).stdout
    assert re.search(r"SEMI: [A-Z]", short)
    assert re.search(r"\d \[\d", short)
    assert "energy" not in short
    long = evit_edge("report", results, "-v").stdout
    assert long.startswith(short)
    assert "energy mJ 55.00; energy from RAPL package-0" in long
    assert "NOISY: the processes' medians differ" in long


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--out", "report.txt"], 2, "--format"),
        (["--accuracy", "no such.json"], 3, "no such.json cannot be read"),
        (["--format", "csv", "--out", "/no/such/folder/report.html"], 3, "cannot be written"),
    ],
)
def test_what_cannot_be_done_is_said(evit_edge: Run, results: Path, arguments: list[str], code: int, says: str) -> None:
    done = evit_edge("report", results, *arguments)
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr
