"""What goes wrong between here and a board is one line, makes no wrong figure, and leaves nothing there."""

import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_edge.device_bench import plan
from evit_edge.device_bench.board.first import MARK
from evit_edge.device_bench.device import connect
from evit_edge.device_bench.job import TimeJob, ask
from evit_edge.device_bench.on_ssh import SshDevice
from evit_edge.device_bench.record import Timing
from evit_edge.device_bench.remote import link
from evit_edge.device_bench.remote.link import LinkCut, marked
from evit_edge.device_bench.ssh.failures import refused
from evit_edge.device_bench.ssh.link import CONFIG
from evit_edge.models.errors import DeviceFailed

from .conftest import MakeArtifact, meanwhile, processes_naming, wait_until
from .plain_board import Board, board, device, server

__all__ = ["board", "device", "server"]

# Says in a file that it ran, and takes its time.
SLOW = ["python3", "-c", "import sys, time; open(sys.argv[1], 'a').write('x'); time.sleep(float(sys.argv[2]))"]


def cut(board: Board) -> None:
    """As if the cable had been pulled: every open connection is gone."""
    for pid in board.server.sessions():
        os.kill(pid, signal.SIGKILL)


def test_a_run_outlives_a_cut_link_and_runs_once(device: SshDevice, board: Board) -> None:
    marker = board.home / "marker"

    def cut_twice() -> None:
        wait_until(marker.exists)
        for _ in range(2):
            cut(board)
            time.sleep(1.2)

    with meanwhile(cut_twice):
        finished = device.run([*SLOW, str(marker), "3"], timeout_s=30)
    assert finished.returncode == 0
    assert marker.read_text() == "x"
    marker.unlink()


@pytest.mark.slow
def test_a_run_outlives_a_server_that_is_gone_for_a_while(device: SshDevice, board: Board) -> None:
    marker = board.home / "marker"

    def restart() -> None:
        wait_until(marker.exists)
        cut(board)
        board.server.stop()
        time.sleep(2)
        board.server.start()

    with meanwhile(restart):
        assert device.run([*SLOW, str(marker), "1"], timeout_s=30).returncode == 0
    assert marker.read_text() == "x"
    marker.unlink()


def test_a_server_that_stays_away_is_told_of_in_one_line(
    device: SshDevice, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = board.home / "marker"
    monkeypatch.setattr(link, "RETURN_S", 0.5)

    def stop() -> None:
        wait_until(marker.exists)
        cut(board)
        board.server.stop()

    with meanwhile(stop), pytest.raises(DeviceFailed, match=r"pi refuses .* did not come back within 0.5 s"):
        device.run([*SLOW, str(marker), "60"], timeout_s=3)
    wait_until(lambda: not processes_naming(marker))
    board.server.start()
    marker.unlink()


def failure(board: Board) -> DeviceFailed:
    with pytest.raises(DeviceFailed) as caught:
        connect("ssh:pi")
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert board.files == []
    return caught.value


def configured(board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, old: str, new: str) -> None:
    config = tmp_path / "ssh_config"
    text = board.server.config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))
    monkeypatch.setenv(CONFIG, str(config))


def test_a_wrong_port(board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configured(board, tmp_path, monkeypatch, old=f"Port {board.server.port}", new="Port 1")
    assert "refuses the connection" in failure(board).message


def test_a_host_that_is_not_there(board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configured(board, tmp_path, monkeypatch, old="HostName 127.0.0.1", new="HostName no-such-host.invalid")
    assert "there is no host pi" in failure(board).message


def test_an_unknown_host_key(board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = board.server.folder / "known_hosts"
    configured(board, tmp_path, monkeypatch, old=str(known), new="/dev/null")
    assert "host key of pi is not known" in failure(board).message


def test_another_host_key_than_the_known_one(board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{board.server.port} {(board.server.folder / 'key.pub').read_text()}")
    configured(board, tmp_path, monkeypatch, old=str(board.server.folder / "known_hosts"), new=str(known))
    assert "another host key" in failure(board).message


def test_a_key_that_is_not_accepted(board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    configured(board, tmp_path, monkeypatch, old=f"{board.server.folder}/key\n", new=f"{other}\n")
    found = failure(board)
    assert ("does not accept the key" in found.message, "ssh-copy-id pi" in found.hint) == (True, True)


def test_a_board_without_python(board: Board) -> None:
    board.settings("PATH=/nowhere\n")
    assert "pi has no python3" in failure(board).message


def test_a_board_with_an_old_python(board: Board) -> None:
    answer = '{"version": "3.8.10", "python": "/usr/bin/python3", "folder": "/root/.cache/evit-edge"}'
    old = board.home.parent / "old" / "python3"
    old.parent.mkdir()
    old.write_text(f"#!/bin/sh\necho '{MARK}{answer}'\n")
    old.chmod(0o755)
    board.settings(f"PATH={old.parent}\n")
    assert "pi has Python 3.8.10, and 3.10 is the oldest" in failure(board).message


def time_job(artifact: Path) -> TimeJob:
    return TimeJob(artifact=str(artifact), runtime="onnxruntime", threads=1, batch=1, seed=0, effort="quick")


def test_a_board_without_the_engine(device: SshDevice, board: Board, make_artifact: MakeArtifact) -> None:
    board.site("sys.modules['onnxruntime'] = None")
    with pytest.raises(DeviceFailed, match="no onnxruntime that works") as caught:
        ask(device, time_job(make_artifact().folder), answer=Timing, timeout_s=30)
    assert "pip install onnxruntime" in caught.value.hint


def test_a_board_whose_memory_is_used_up(device: SshDevice, board: Board, make_artifact: MakeArtifact) -> None:
    board.site("import os, signal\nif sys.orig_argv[2:3] == ['trial']: os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(DeviceFailed, match="onnxruntime was killed by SIGKILL") as caught:
        ask(device, time_job(make_artifact().folder), answer=Timing, timeout_s=30)
    assert "memory" in caught.value.hint


def test_what_watches_over_the_run_is_killed(device: SshDevice, board: Board) -> None:
    marker = board.home / "marker"

    def kill() -> None:
        wait_until(marker.exists)
        (leader,) = board.home.rglob("supervisor")
        os.kill(int(leader.read_text()), signal.SIGKILL)

    code = "import os, sys; open(sys.argv[1], 'w').close(); os.read(0, 1)"
    with meanwhile(kill), pytest.raises(DeviceFailed, match="was killed"):
        device.run(["python3", "-c", code, str(marker)], timeout_s=30)
    wait_until(lambda: not processes_naming(marker))
    marker.unlink()


@pytest.mark.skipif(os.getuid() != 0 or shutil.which("mount") is None, reason="only root can make a small disk")
def test_a_full_disk(board: Board, make_artifact: MakeArtifact) -> None:
    small = board.home / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", small], check=False)
    if mounted.returncode:
        small.rmdir()
        pytest.skip("no disk can be mounted here")
    try:
        board.settings(f"HOME={small}\n")
        device = SshDevice("pi")
        big = make_artifact().folder.parent / "big"
        big.write_bytes(bytes(2**20))
        with pytest.raises(DeviceFailed, match="the disk of pi is full"):
            device.push(big)
        assert not list(small.rglob("*.part"))
        (small / "filler").write_bytes(bytes(50_000))
        device.close()
        assert sorted(path.name for path in small.iterdir()) == [".cache", "filler"]
        with pytest.raises(OSError, match="No space"):
            (small / "more").write_bytes(bytes(300_000))
        with pytest.raises(DeviceFailed, match="the disk of pi is full"):
            SshDevice("pi")
        assert [path for path in (small / ".cache").rglob("*") if path.is_file()] == []
    finally:
        subprocess.run(["umount", small], check=True)
        small.rmdir()


@pytest.mark.parametrize(
    ("said", "is_cut"),
    [
        ("ssh: connect to host 10.0.0.2 port 22: Connection timed out", False),
        ("Connection timed out during banner exchange", False),
        ("Read from remote host pi: Connection timed out\nclient_loop: send disconnect: Broken pipe", True),
        ("Timeout, server pi not responding.", True),
        ("Connection to 10.0.0.2 closed by remote host.", True),
        ("kex_exchange_identification: Connection closed by remote host", True),
        ("", True),
    ],
)
def test_only_a_link_that_was_there_can_be_cut(said: str, is_cut: bool) -> None:
    assert isinstance(refused("pi", said), LinkCut) == is_cut


@given(st.text(), st.dictionaries(st.text(), st.text()))
def test_an_answer_counts_only_if_all_of_it_arrived(noise: str, answer: dict[str, str]) -> None:
    before = noise.replace(MARK, "").encode(errors="replace") + b"\n"
    line = (MARK + json.dumps(answer) + "\n").encode()
    assert marked(before + line) == answer
    assert all(marked(before + line[:end]) is None for end in range(len(line)))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_of_twenty_processes_that_is_cut_over_and_over(
    device: SshDevice, board: Board, make_artifact: MakeArtifact
) -> None:
    cells = plan.cells([make_artifact(name) for name in "abcde"])
    over, rng, cuts = threading.Event(), random.Random(0), [0]

    def cut_at_random() -> None:
        while not over.wait(rng.uniform(0, 1.5)):
            cut(board)
            cuts[0] += 1

    thread = threading.Thread(target=cut_at_random)
    thread.start()
    try:
        results = plan.run(plan.Plan(cells=cells, effort="quick", seed=0, command=["x"]), device)
    finally:
        over.set()
        thread.join()
    for result in results:
        assert result.failure is None
        assert [trial.round for trial in result.trials] == list(range(len(result.trials)))
        assert result.memory
    assert sum(len(result.trials) for result in results) + len(results) >= 20
    assert cuts[0] >= 50
