"""The same over ssh into an emulated aarch64 Debian with the real aarch64 engines: `make devices-up` builds it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from platformdirs import user_cache_dir

from evit_edge.converters.artifact import Artifact, Precision
from evit_edge.converters.conversion import plan as planned
from evit_edge.converters.convert import convert
from evit_edge.converters.parity import check
from evit_edge.device_bench import result, validity
from evit_edge.device_bench.gate import engines
from evit_edge.device_bench.on_ssh import SshDevice
from evit_edge.device_bench.report import summary
from evit_edge.device_bench.session import execute
from evit_edge.device_bench.ssh.link import CONFIG
from evit_edge.models.spec import ModelRequest, find

from . import sshd
from .conftest import processes_naming

# Not that of the tests, which ends with them.
ROOT = Path(user_cache_dir("evit-edge"), "devices", "aarch64")
SCRIPTS = Path(__file__).resolve().parents[1] / "devices"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Server]:
    """An sshd whose connections land in the emulated board."""
    lacking = [name for name in ("qemu-aarch64-static", "unshare") if shutil.which(name) is None]
    if reason := sshd.lacking() or (f"there is no {lacking[0]}" if lacking else ""):
        pytest.skip(reason)
    if not ROOT.is_dir():
        pytest.skip("there is no emulated board: run make devices-up")
    enter = [str(SCRIPTS / "enter.sh"), str(ROOT)]
    tried = subprocess.run([*enter, "uname -m", "/root"], capture_output=True, text=True, check=False)
    if tried.stdout.strip() != "aarch64":
        pytest.skip(f"the emulated board cannot be entered: {tried.stderr.strip()}")
    folder = tmp_path_factory.mktemp("emulated")
    land = folder / "land.sh"
    land.write_text(f'#!/bin/sh\nexec {enter[0]} {ROOT} "$SSH_ORIGINAL_COMMAND" /root\n')
    land.chmod(0o755)
    with sshd.serving(folder, land) as server:
        yield server
    assert not (ROOT / "root" / ".cache" / "evit-edge").exists()
    # An argument that begins so: a path of the host's own may contain it.
    assert processes_naming("\0/root/.cache/evit-edge/") == []


def test_the_board_is_known_to_be_emulated(emulated: sshd.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONFIG, str(emulated.config))
    device = SshDevice("pi")
    info = device.info()
    device.close()
    assert info.emulated is True
    assert info.os.startswith("Debian")
    assert {"onnxruntime", "ai-edge-litert", "tflite-runtime", "numpy"} <= set(info.versions)
    assert "asimddp" in (info.cpu_features or ())


def converted(folder: Path, target: str, *, precision: Precision) -> Artifact:
    spec = find(ModelRequest(name="efficientvit_m0", weights="demo"))
    conversion = planned(spec, target, precision=precision, batch=1, images=4, seed=0)
    engine, self_check = engines(conversion)
    return convert(conversion, folder, execute=execute, engine=engine, self_check=self_check, timeout_s=300)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(
    ("target", "runtime"), [("onnx", "onnxruntime"), ("tflite", "litert"), ("tflite", "tflite_builtin")]
)
def test_efficientvit_computes_the_same_there(
    emulated: sshd.Server,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    target: str,
    runtime: str,
    precision: Precision,
) -> None:
    monkeypatch.setenv(CONFIG, str(emulated.config))
    artifact = converted(tmp_path, target, precision=precision)
    device = SshDevice("pi")
    verdict = check(artifact, execute=partial(execute, device=device), engine=runtime)
    device.close()
    assert verdict.passed, verdict


def test_a_row_of_an_emulated_board_has_its_own_parity_and_is_never_ranked(
    emulated: sshd.Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    artifact = converted(tmp_path, "onnx", precision="fp32")
    out = tmp_path / "results.jsonl"
    command = ["bench", str(artifact.folder), "--device", "ssh:pi", "--effort", "quick", "--out", str(out), "-q"]
    environment = {**os.environ, CONFIG: str(emulated.config)}
    done = subprocess.run(
        [sys.executable, "-m", "evit_edge", *command], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 7, done.stderr
    (measured,) = result.read(out)
    (row,) = summary.rows([measured])
    assert measured.failure is None
    assert (row.validity, row.ranked) == ("INVALID", False)
    assert "EMULATED" in {reason.code for reason in validity.judge(measured).reasons}
    assert measured.parity
    assert (measured.parity.passed, measured.parity.engine) == (True, "onnxruntime, there")
