"""`compare` as it is typed: a table, JSON, and exit code 8 only for what is slower twice over."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evit_edge.device_bench.result import Result, append, read

from ..device_bench.conftest import MakeArtifact, MakeResult, make_artifact, make_result, make_trial

__all__ = ["make_artifact", "make_result"]

MS = 1_000_000


def compare(*arguments: object, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "evit_edge", "compare", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def trials(factor: float, *, place: int, count: int = 20) -> tuple[Any, ...]:
    return tuple(
        make_trial(number, samples_ns=(round(2 * MS * factor * (1 + number % 3 / 100)),)).model_copy(
            update={"order": (number + place) % 2}
        )
        for number in range(count)
    )


@pytest.fixture
def records(tmp_path: Path, make_result: MakeResult) -> Path:
    """Two configurations side by side, the second 20 % slower."""
    path = tmp_path / "results.jsonl"
    append(path, make_result(trials=trials(1.0, place=0)))
    append(path, make_result(trials=trials(1.2, place=1), precision="int8"))
    return path


def test_records_of_one_run_have_a_verdict(records: Path, tmp_path: Path) -> None:
    found = compare(records, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert "slower" in found.stdout
    assert "+20.0%" in found.stdout
    (row,) = json.loads(compare(records, "--json", cwd=tmp_path).stdout)
    assert (row["verdict"], row["pairs"]) == ("slower", 20)
    assert row["change"] == pytest.approx(0.2)
    assert read(records) == read(records)
    assert len(read(records)) == 2


def test_slower_than_allowed_ends_with_8_and_says_what_it_rests_on(records: Path, tmp_path: Path) -> None:
    found = compare(records, "--fail-above", "5%", cwd=tmp_path)
    assert found.returncode == 8
    assert "slower by more than 5.0%, by the record alone" in found.stderr
    assert compare(records, "--fail-above", "30%", cwd=tmp_path).returncode == 0


def test_three_rounds_say_nothing_and_fail_nothing(tmp_path: Path, make_result: MakeResult) -> None:
    path = tmp_path / "quick.jsonl"
    append(path, make_result(trials=trials(1.0, place=0, count=3)))
    append(path, make_result(trials=trials(3.0, place=1, count=3), precision="int8"))
    found = compare(path, "--fail-above", "5%", cwd=tmp_path)
    assert found.returncode == 0
    assert "inconclusive" in found.stdout
    assert "3 rounds side by side" in " ".join(found.stdout.split())


def test_an_older_record_that_cannot_be_measured_again_is_a_suspicion(
    records: Path, tmp_path: Path, make_result: MakeResult
) -> None:
    new = tmp_path / "new.jsonl"
    append(new, make_result(session="later", trials=trials(1.5, place=0)))
    (row,) = json.loads(compare(new, "--baseline", records, "--json", cwd=tmp_path).stdout)
    assert row["verdict"] == "inconclusive"
    assert compare(new, "--baseline", records, "--fail-above", "5%", cwd=tmp_path).returncode == 8


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nowhere.jsonl"], 3, "cannot be read"),
        (["results.jsonl", "--baseline", "nowhere.jsonl"], 3, "cannot be read"),
        (["results.jsonl", "a"], 2, "artifacts or results, not both"),
        (["a"], 2, "nothing to compare with"),
        (["a", "a", "--effort", "quik"], 2, "nothing to compare with"),
        (["a", "b", "--effort", "quik"], 2, "unknown effort"),
        (["a", "b", "--threads", "0"], 2, "--threads"),
        (["results.jsonl", "--fail-above", "much"], 2, "is not a share"),
        (["a", "empty"], 3, "empty"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    records: Path, tmp_path: Path, make_artifact: MakeArtifact, arguments: list[str], code: int, says: str
) -> None:
    make_artifact("a")
    make_artifact("b")
    (tmp_path / "empty").mkdir()
    found = compare(*arguments, "-q", cwd=tmp_path)
    assert found.returncode == code, found.stderr
    assert says in " ".join(found.stderr.split())
    assert "Traceback" not in found.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_slower_artifact_is_found_by_measuring_it_twice(
    make_artifact: MakeArtifact, tmp_path: Path, make_result: MakeResult
) -> None:
    good, slow = make_artifact("good"), make_artifact("slow")
    old = tmp_path / "old.jsonl"
    append(old, make_result(artifact_digest=good.digest, artifact_path=str(good.folder), batch=1))
    found = compare(slow.folder, "--baseline", old, "--out", "new.jsonl", "--json", "-q", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    (row,) = json.loads(found.stdout)
    # The same file in two folders: whatever the machine does, it is not slower.
    assert row["verdict"] in ("same", "inconclusive")
    assert row["pairs"] == 20
    results: list[Result] = read(tmp_path / "new.jsonl")
    assert [len(each.trials) for each in results] == [20, 20]
    assert len({each.session for each in results}) == 1
