"""A device is held by one run at a time, in whatever thread or process."""

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from evit_edge.device_bench.holding import held
from evit_edge.models.errors import DeviceBusy, DeviceFailed, FileProblem

OTHER = """
import sys, time
from evit_edge.device_bench.holding import held
with held("ssh:pi"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_threads_never_hold_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evit_edge.device_bench.holding.PAUSE_S", 0.0002)
    holders, twice, total, lock = {"a": 0, "b": 0, "c": 0}, [], [0], threading.Lock()

    def schedule(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(1250):
            address = rng.choice("abc")
            with held(address):
                holders[address] += 1
                if holders[address] > 1:
                    twice.append(address)
                if rng.random() < 0.1:
                    time.sleep(0.0001)
                holders[address] -= 1
            with lock:
                total[0] += 1

    threads = [threading.Thread(target=schedule, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (total, twice) == ([10_000], [])


def test_another_process_has_it_until_it_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", OTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        assert other.stdout.readline() == b"held\n"
        waited: list[str] = []
        with (
            pytest.raises(DeviceBusy, match="another run has ssh:pi"),
            held("ssh:pi", patience_s=0.5, on_wait=lambda: waited.append("once")),
        ):
            pass
        assert waited == ["once"]
        with held("ssh:other", patience_s=0):
            pass
        other.kill()
        with held("ssh:pi", patience_s=5):
            pass


def test_a_wait_ends_when_the_run_is_no_longer_wanted() -> None:
    def unwanted() -> None:
        raise DeviceFailed("the run was ended")

    with held("local"), pytest.raises(DeviceFailed, match="was ended"), held("local", require_wanted=unwanted):
        pass


def test_where_there_can_be_no_lock_nothing_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EVIT_EDGE_CACHE", str(tmp_path / "file"))
    with pytest.raises(FileProblem, match="cannot be written"), held("local"):
        pass
