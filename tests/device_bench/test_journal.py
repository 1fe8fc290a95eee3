"""A journal keeps whole turns, gives them back, and is of one plan and one run at a time."""

import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from evit_edge.device_bench.journal import Entry, Header, Journal, opened
from evit_edge.device_bench.record import Failure, Memory
from evit_edge.models.errors import FileProblem

from .conftest import DEVICE, make_trial


def header(**changes: Any) -> Header:
    known: dict[str, Any] = {
        "plan_sha256": "1" * 64,
        "session": "s",
        "started": datetime(2025, 1, 2, tzinfo=UTC),
        "device": DEVICE,
    }
    return Header(**known | changes)


def entry(number: int = 0, **changes: Any) -> Entry:
    known: dict[str, Any] = {"cell": 0, "kind": "time", "round": number, "order": 0, "seconds": 1.5}
    return Entry(**known | changes)


def kept(path: Path, *entries: Entry) -> None:
    with closing(opened(path, header())) as journal:
        for each in entries:
            journal.add(each)


def test_what_was_added_is_there_again_with_the_header_that_it_began_with(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    whole = [
        entry(timing=make_trial().timing),
        entry(1, failure=Failure(kind="DeviceFailed", message="gone")),
        entry(kind="memory", memory=Memory(before_bytes=1, peak_bytes=2)),
    ]
    kept(path, *whole[:2])
    kept(path, *whole[2:])
    with closing(opened(path, header(session="another"))) as journal:
        assert journal.entries == whole
        assert journal.header == header()


def test_the_schedule_learns_the_median_per_inference_and_what_failed() -> None:
    timed = entry(timing=make_trial(block=2, samples_ns=(200, 300, 1000)).timing).taken
    assert (timed.value, timed.failed, timed.seconds) == (150, False, 1.5)
    failed = entry(failure=Failure(kind="DeviceFailed", message="gone")).taken
    assert (failed.value, failed.failed) == (None, True)


@pytest.mark.parametrize("cut", [1, 10, 200])
def test_a_turn_that_was_cut_off_is_taken_again(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "trials.jsonl"
    kept(path, entry(0, timing=make_trial().timing), entry(1, timing=make_trial().timing))
    path.write_bytes(path.read_bytes()[:-cut])
    kept(path, entry(1, timing=make_trial().timing))
    with closing(opened(path, header())) as journal:
        assert [each.round for each in journal.entries] == [0, 1]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_header_that_was_cut_off_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    path.write_text('{"schema":1,"plan_')
    with closing(opened(path, header())) as journal:
        assert journal.entries == []
    assert len(path.read_text().splitlines()) == 1


def test_a_journal_of_another_plan_or_of_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    kept(path, entry())
    before = path.read_bytes()
    with pytest.raises(FileProblem, match="another plan"):
        opened(path, header(plan_sha256="2" * 64))
    assert path.read_bytes() == before
    path.write_text("notes\n")
    with pytest.raises(FileProblem, match="damaged"):
        opened(path, header())
    assert path.read_text() == "notes\n"


def test_two_runs_cannot_have_the_same_one(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    with closing(opened(path, header())), pytest.raises(FileProblem, match="in use"):
        opened(path, header())
    opened(path, header()).close()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="cannot be written"):
        opened(tmp_path / "no" / "trials.jsonl", header())


def test_without_a_file_it_is_in_memory() -> None:
    journal = Journal(header())
    journal.add(entry())
    journal.close()
    assert journal.entries == [entry()]
