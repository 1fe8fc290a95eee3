"""A board over ssh: it says what it is, measures as this machine does, and is left as it was found."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from evit_edge.converters import golden, tensors
from evit_edge.converters.artifact import digests_of, read, write_manifest
from evit_edge.device_bench import plan, result
from evit_edge.device_bench.device import connect
from evit_edge.device_bench.job import MemoryJob, TimeJob, ask
from evit_edge.device_bench.journal import Entry, Journal
from evit_edge.device_bench.on_ssh import SshDevice
from evit_edge.device_bench.protocol import EFFORTS
from evit_edge.device_bench.record import Memory, Timing
from evit_edge.device_bench.report import summary
from evit_edge.device_bench.session import execute
from evit_edge.models.errors import DeviceFailed, UnknownName, Unsupported

from .conftest import WEIGHTS, MakeArtifact, interrupted_when, make_trial, processes_naming, wait_until
from .plain_board import Board, board, device, environment, server

__all__ = ["board", "device", "server"]

FAMILY = (
    "import subprocess, sys, time, pathlib\n"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)', sys.argv[1]])\n"
    "pathlib.Path(sys.argv[1]).touch()\n"
    "time.sleep(float(sys.argv[2]))"
)


def test_it_says_what_it_is_and_which_engines_it_has(device: SshDevice) -> None:
    info = device.info()
    local = connect("local").info()
    assert info.device == "ssh:pi"
    assert (info.cpu, info.memory_bytes, info.caches_bytes) == (local.cpu, local.memory_bytes, local.caches_bytes)
    assert info.versions["onnxruntime"] == local.versions["onnxruntime"]
    assert info.emulated is False


def test_any_argument_arrives_as_it_is(device: SshDevice) -> None:
    wild = ["a b", "$HOME `id` \"q\" 'q'", "*;|&<>\\", "", "line\nbreak", "-n", "ü"]
    finished = device.run(["python3", "-c", "import sys; print(ascii(sys.argv[1:])); sys.exit(7)", *wild], timeout_s=30)
    assert (finished.returncode, finished.tail.strip()) == (7, ascii(wild))


def test_a_file_is_pushed_once_and_again_if_it_was_changed_there(
    device: SshDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "with space.bin"
    source.write_bytes(bytes(range(256)) * 5000)
    sent: list[str] = []
    put = device._put

    def counted(file: Path, there: str) -> None:
        sent.append(there)
        put(file, there)

    monkeypatch.setattr(device, "_put", counted)
    there = Path(device.push(source))
    assert device.push(source) == str(there)
    assert len(sent) == 1
    there.write_bytes(b"x" * source.stat().st_size)
    device.push(source)
    assert len(sent) == 2
    device.pull(str(there), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


def test_a_folder_is_pushed_with_all_that_is_in_it(device: SshDevice, tmp_path: Path) -> None:
    (tmp_path / "folder" / "in").mkdir(parents=True)
    (tmp_path / "folder" / "in" / "deep").write_text("deep")
    there = device.push(tmp_path / "folder")
    device.pull(f"{there}/in/deep", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "deep"
    with pytest.raises(DeviceFailed, match="No such file"):
        device.pull(f"{there}/nothing", tmp_path / "none")


def test_the_deadline_is_kept_there_for_all_that_was_started(device: SshDevice, board: Board) -> None:
    marker = board.home / "family"
    start = time.monotonic()
    with pytest.raises(DeviceFailed, match="no answer within 1 s"):
        device.run(["python3", "-c", FAMILY, str(marker), "60"], timeout_s=1)
    assert time.monotonic() - start < 15
    # What only waited for its end notices within a tenth of a second.
    wait_until(lambda: not processes_naming(marker), timeout_s=5)
    marker.unlink()


def test_an_interruption_ends_what_runs_there(device: SshDevice, board: Board) -> None:
    marker = board.home / "family"
    with pytest.raises(KeyboardInterrupt), interrupted_when(marker.exists):
        device.run(["python3", "-c", FAMILY, str(marker), "60"], timeout_s=60)
    # What only waited for its end notices within a tenth of a second.
    wait_until(lambda: not processes_naming(marker), timeout_s=5)
    marker.unlink()


def test_a_process_there_measures_as_one_here_does(device: SshDevice, make_artifact: MakeArtifact) -> None:
    folder = str(make_artifact(batch=1).folder)
    job = TimeJob(artifact=folder, runtime="onnxruntime", threads=1, batch=1, seed=3, effort="quick")
    there, here = (ask(machine, job, answer=Timing, timeout_s=60) for machine in (device, connect("local")))
    assert (there.inputs, there.input_dtypes, there.inputs_sha256) == (
        here.inputs,
        here.input_dtypes,
        here.inputs_sha256,
    )
    # No tool stands between: only here is it written down that there is no summary of one.
    assert (there.cores, there.model_fields_set) == (here.cores, here.model_fields_set - {"summary"})
    assert there.before is not None
    assert there.before.probe_ns
    assert len(there.samples_ns) >= EFFORTS["quick"].min_samples
    memory = MemoryJob(artifact=folder, runtime="onnxruntime", threads=1, batch=1, seed=3)
    assert ask(device, memory, answer=Memory, timeout_s=60).added_bytes > 0


def test_what_was_left_there_days_ago_is_taken_away(board: Board) -> None:
    ours = board.home / ".cache" / "evit-edge"
    for name, age_s in (("old", 100_000), ("young", 1000)):
        (ours / name / "run-1").mkdir(parents=True)
        os.utime(ours / name, (time.time() - age_s,) * 2)
    device = SshDevice("pi")
    assert (ours / "young").exists()
    assert not (ours / "old").exists()
    device.close()
    assert [path.name for path in ours.iterdir()] == ["young"]
    shutil.rmtree(ours)


def test_outputs_are_those_of_the_model(device: SshDevice, make_artifact: MakeArtifact) -> None:
    pixels = np.random.default_rng(1).standard_normal((21, 3, 8, 8)).astype(np.float32)
    for artifact in (make_artifact("free"), make_artifact("four", batch=4)):
        _, logits = execute(artifact.folder, {"pixels": pixels}, device=device)
        np.testing.assert_allclose(logits, pixels.reshape(21, -1) @ WEIGHTS, atol=1e-4)


def test_what_no_board_can_do_is_refused(device: SshDevice, make_artifact: MakeArtifact) -> None:
    artifact = make_artifact(batch=4)
    feeds = {"pixels": np.zeros((4, 3, 8, 8), np.float32)}
    with pytest.raises(Unsupported, match="torch does not run on a board"):
        execute(artifact.folder, feeds, runtime="torch", device=device)
    wanted = plan.Plan(cells=plan.cells([artifact], batches=[2]), effort="quick", seed=0, command=["x"])
    (row,) = plan.run(wanted, device)
    assert row.failure
    assert "batch fixed at 4" in row.failure.message


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_a_rows_parity_is_that_of_what_the_board_computes(
    device: SshDevice, make_artifact: MakeArtifact, shift: float
) -> None:
    artifact = make_artifact()
    assert artifact.manifest.parity
    pixels = np.random.default_rng(2).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    logits = artifact.manifest.model.preprocess.value().normalise(pixels).reshape(4, -1) @ WEIGHTS
    wanted = [tensors.softmax(logits), logits + shift * np.abs(logits).max() * np.eye(4, 10, dtype=np.float32)]
    outputs = {f"output_images_{place}": array for place, array in enumerate(wanted)}
    golden.save(artifact.folder, {"pixels_images": pixels, "gain_images": np.ones((), np.float32), **outputs})
    files = {"files": digests_of(artifact.folder)}
    write_manifest(artifact.folder, artifact.manifest.model_copy(update=files))
    wish = plan.Plan(cells=plan.cells([read(artifact.folder)]), effort="quick", seed=0, command=["x"])
    timed = [
        Entry(cell=0, kind="time", round=number, order=0, seconds=1.0, timing=make_trial(number).timing)
        for number in range(6)
    ]
    (row,) = plan.run(wish, device, journal=Journal(plan.begun(wish, device), entries=timed))
    assert row.failure is None
    assert row.memory
    assert row.parity
    assert (row.parity.engine, row.parity.passed) == ("onnxruntime, there", shift == 0)
    assert summary.rows([row])[0].ranked == (shift == 0)


def test_ctrl_c_in_the_command_leaves_nothing_there(board: Board, make_artifact: MakeArtifact, tmp_path: Path) -> None:
    artifact = make_artifact()
    command = [sys.executable, "-m", "evit_edge", "bench", str(artifact.folder), "--device", "ssh:pi", "-q"]
    command += ["--out", str(tmp_path / "results.jsonl")]
    process = subprocess.Popen(command, env=environment(board), stderr=subprocess.PIPE, start_new_session=True)
    wait_until(lambda: any("trial" in Path(f"/proc/{pid}/cmdline").read_text() for pid in processes_naming(board.home)))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said.decode().strip()) == (130, "interrupted")
    assert [file for file in board.files if file.name != ".cache"] == []
    wait_until(lambda: not processes_naming(board.home), timeout_s=5)


@pytest.mark.slow
def test_the_command_measures_a_board(board: Board, make_artifact: MakeArtifact, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    command = [sys.executable, "-m", "evit_edge", "bench", str(make_artifact().folder), "--device", "ssh:pi"]
    done = subprocess.run(
        [*command, "--effort", "quick", "--json", "-q", "--out", str(out)],
        env=environment(board), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 7), done.stderr
    (line,) = out.read_text().splitlines()
    assert json.loads(line)["device"]["device"] == "ssh:pi"
    assert [file for file in board.files if file.name != ".cache"] == []


@pytest.mark.slow
def test_a_run_file_measures_here_and_there(board: Board, make_artifact: MakeArtifact, tmp_path: Path) -> None:
    path = tmp_path / "both.toml"
    path.write_text(
        f'effort = "quick"\ndevices = ["local", "ssh:pi"]\n[[artifact]]\npath = "{make_artifact().folder}"\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "evit_edge", "run", str(path), "--out", str(tmp_path / "both"), "-q"],
        env=environment(board), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 7), done.stderr
    found = result.read(tmp_path / "both" / "results.jsonl")
    assert [each.device.device for each in found] == ["local", "ssh:pi"]
    assert [each.failure for each in found] == [None, None]
    assert [file for file in board.files if file.name != ".cache"] == []


@pytest.mark.parametrize("address", ["ssh", "ssh:", "ssh:-oProxyCommand=x", "ssh:a b", "ssh:$(x)"])
def test_an_address_that_ssh_would_misunderstand_is_refused(address: str) -> None:
    with pytest.raises(UnknownName):
        connect(address)


def test_the_digest_is_that_of_the_file_there(device: SshDevice, tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(b"content")
    there = device.push(source)
    assert device._ask("digests", there, there + "x")["sha256"] == [hashlib.sha256(b"content").hexdigest(), None]
