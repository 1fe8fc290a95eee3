"""What a device behind adb computes comes back: from the tool that a user gives, and from a Python that is there."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evit_edge.converters import tensors
from evit_edge.converters.artifact import Artifact
from evit_edge.device_bench import plan
from evit_edge.device_bench.adb.link import Link
from evit_edge.device_bench.device import connect
from evit_edge.device_bench.on_adb import AdbDevice
from evit_edge.device_bench.remote.device import RunnerDevice
from evit_edge.device_bench.session import execute
from evit_edge.models.errors import DeviceFailed, Unsupported

from ..conftest import MakeArtifact
from ..tflite_models import INPUTS, OUTPUTS, TENSORS, fixed, linear
from .phone import Phone
from .playing import artifact, device, phone, phone_of_module, tool

__all__ = ["artifact", "device", "phone", "phone_of_module", "tool"]

XNNPACK = "benchmark_model_xnnpack"
PYTHON = Path(sys.executable)


def given_python(phone: Phone, *, to_path: bool = True) -> None:
    """Have the phone hold the Python of these tests, and a shell there find it."""
    phone.system("binds", f"{sys.prefix}\n{sys.base_prefix}\n")
    if to_path:
        link = phone.root / "system" / "bin" / "python3"
        link.write_text(f'#!/bin/sh\nexec {PYTHON} "$@"\n')
        link.chmod(0o755)


@pytest.fixture
def computing(phone: Phone, tool: Path) -> Path:
    """The tool computes what it is given."""
    given_python(phone, to_path=False)
    phone.system("compute.py", Path(__file__).with_name("computing.py").read_text())
    stand_in = phone.root / "system" / "bin" / "stand_in"
    stand_in.write_text(f'#!/bin/sh\nexec {PYTHON} /system/compute.py /system/says "$@"\n')
    return stand_in


def feeds(artifact: Artifact, count: int) -> dict[str, Any]:
    (record,) = artifact.manifest.inputs
    sizes = [size for size in tensors.model_shape(record)[1:] if size]
    noise = np.random.default_rng(1).standard_normal((count, *sizes), np.float32)
    return {record.name: noise}


@pytest.mark.parametrize("batch", [1, 2, None])
def test_the_tool_gives_the_outputs_that_this_machine_does(
    device: AdbDevice, computing: Path, make_tflite: MakeArtifact, batch: int | None
) -> None:
    shaped = {"inputs": fixed(INPUTS, batch), "outputs": fixed(OUTPUTS, batch)} if batch else TENSORS
    made = make_tflite(linear(batch=batch) if batch else linear(), **shaped)
    values = feeds(made, 3)
    here = execute(made.folder, values, runtime="litert")
    there = execute(made.folder, values, runtime=XNNPACK, device=device)
    np.testing.assert_array_equal(there, here)


def test_a_tool_that_cannot_save_outputs_gives_none(
    device: AdbDevice, phone: Phone, tool: Path, artifact: Artifact
) -> None:
    said = "WARN: Unconsumed cmdline flags: --output_filepath=x\n"
    phone.system("says", said + (phone.root / "system" / "says").read_text())
    with pytest.raises(Unsupported, match="does not know --output_filepath"):
        execute(artifact.folder, feeds(artifact, 1), runtime=XNNPACK, device=device)


def test_outputs_of_another_size_are_none(device: AdbDevice, phone: Phone, tool: Path, artifact: Artifact) -> None:
    stand_in = phone.root / "system" / "bin" / "stand_in"
    stand_in.write_text(
        "#!/bin/sh\nfor each; do case $each in --output_filepath=*) printf abc >${each#*=};; esac; done\n"
        "cat /system/says\n"
    )
    with pytest.raises(DeviceFailed, match="3 bytes, which are not this model's outputs"):
        execute(artifact.folder, feeds(artifact, 1), runtime=XNNPACK, device=device)


def test_a_phone_without_python_says_what_works(device: AdbDevice, artifact: Artifact) -> None:
    assert device.runtimes()[0] == XNNPACK
    (cell,) = plan.cells([artifact], offered=device.runtimes())
    assert cell.runtime == XNNPACK
    with pytest.raises(Unsupported, match="needs a Python") as caught:
        execute(artifact.folder, feeds(artifact, 1), runtime="litert", device=device)
    assert XNNPACK in caught.value.hint


def test_where_there_is_python_the_runner_measures(phone: Phone, artifact: Artifact) -> None:
    given_python(phone)
    device = AdbDevice(Link(phone.serial))
    try:
        assert {"litert", "onnxruntime", XNNPACK} <= set(device.runtimes())
        (cell,) = plan.cells([artifact], offered=device.runtimes())
        assert cell.runtime == "litert"
        values = feeds(artifact, 2)
        there = execute(artifact.folder, values, runtime="litert", device=device)
        np.testing.assert_array_equal(there, execute(artifact.folder, values, runtime="litert"))
        info = device.info()
        assert "ai-edge-litert" in info.versions
        assert info.board == "Google Pixel 8 Pro (husky)"
        wanted = plan.Plan(cells=[cell], effort="quick", seed=0, command=["evit-edge"])
        (row,) = plan.run(wanted, device)
        assert row.failure is None
        assert all(trial.timing.summary is None for trial in row.trials)
    finally:
        device.close()


def test_a_board_that_is_no_android_is_one_with_python(phone: Phone, artifact: Artifact) -> None:
    given_python(phone)
    (phone.root / "system" / "bin" / "getprop").unlink()
    device = connect(f"adb:{phone.serial}")
    assert isinstance(device, RunnerDevice)
    assert device.info().device == f"adb:{phone.serial}"
    values = feeds(artifact, 1)
    there = execute(artifact.folder, values, runtime="litert", device=device)
    np.testing.assert_array_equal(there, execute(artifact.folder, values, runtime="litert"))
    device.close()
    assert [path for path in (phone.root / ".cache").rglob("*") if not path.is_dir()] == []
