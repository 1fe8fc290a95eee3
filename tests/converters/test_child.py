import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evit_edge.converters import child
from evit_edge.models.errors import ParityFailed

FAKES = "child_fakes"


@pytest.fixture(autouse=True)
def _fakes_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "crashing"))


def alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return status != "Z"


def wait_for(file: Path) -> list[int]:
    deadline = time.monotonic() + 30
    while not (file.exists() and file.read_text().count(" ") == 1):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return [int(pid) for pid in file.read_text().split()]


def gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + 10
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(alive, pids))


def test_an_answer_comes_back_whatever_the_child_prints() -> None:
    assert child.call(FAKES, {"do": "answer", "value": [1, "zwei", None]}, timeout_s=60) == [1, "zwei", None]


def test_what_a_child_is_about_is_passed_on() -> None:
    steps: list[str] = []
    child.call(FAKES, {"do": "steps"}, timeout_s=60, on_step=steps.append)
    assert list(dict.fromkeys(steps)) == ["first", "second"]


def test_a_step_in_no_child_is_said_to_nobody() -> None:
    child.say("something")


def test_an_error_of_ours_crosses_with_its_kind_and_hint() -> None:
    with pytest.raises(ParityFailed) as caught:
        child.call(FAKES, {"do": "raise"}, timeout_s=60)
    assert (caught.value.message, caught.value.hint) == ("off by one", "look again")


def test_an_abort_is_named_by_its_signal_with_the_last_words() -> None:
    with pytest.raises(child.ChildCrashed, match="killed by SIGABRT: ") as caught:
        child.call(FAKES, {"do": "abort"}, timeout_s=60)
    assert "fatal: about to abort" in caught.value.tail


@pytest.mark.parametrize("status", [0, 1, 7])
def test_an_exit_without_an_answer_is_a_crash_even_with_status_0(status: int) -> None:
    with pytest.raises(child.ChildCrashed, match=f"status {status}: giving up"):
        child.call(FAKES, {"do": "exit", "status": status}, timeout_s=60)


def test_a_bug_in_the_child_shows_its_last_line() -> None:
    with pytest.raises(child.ChildCrashed, match="ZeroDivisionError: a bug") as caught:
        child.call(FAKES, {"do": "bug"}, timeout_s=60)
    assert "Traceback" in caught.value.tail


def test_the_deadline_ends_the_child_and_what_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with pytest.raises(child.ChildCrashed, match="took longer than 5 s"):
        child.call(FAKES, {"do": "hang", "pids": str(pids)}, timeout_s=5)
    assert gone(wait_for(pids))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_when_the_caller_is_ended(tmp_path: Path, number: int) -> None:
    pids = tmp_path / "pids"
    program = (
        "from evit_edge.converters import child\n"
        f"child.call({FAKES!r}, {{'do': 'hang', 'pids': {str(pids)!r}}}, timeout_s=300)"
    )
    caller = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    started = wait_for(pids)
    os.kill(caller.pid, number)
    caller.wait(30)
    assert gone(started)
