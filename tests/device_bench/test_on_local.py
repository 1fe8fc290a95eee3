"""Commands on this machine: how they ended is known, and nothing of them is left."""

import signal
import sys
import time
from pathlib import Path

import pytest

from evit_edge.device_bench.device import DeviceInfo, connect
from evit_edge.device_bench.on_local import LocalDevice
from evit_edge.models.errors import DeviceFailed, UnknownName

from .conftest import interrupted_when, processes_naming, wait_until

# A child with a child of its own, both with the marker in their command line.
FAMILY = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", sys.argv[1]])
time.sleep(float(sys.argv[2]))
"""


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def test_a_command_that_ends_gives_its_status_and_its_last_words() -> None:
    code = "import sys; print('one'); print('x' * 9999, file=sys.stderr); print('two', file=sys.stderr); sys.exit(3)"
    finished = connect("local").run(python(code), timeout_s=30)
    assert finished.returncode == 3
    assert finished.tail.endswith("two\n")
    assert len(finished.tail) <= 4096


def test_a_command_that_is_killed_gives_the_signal() -> None:
    code = "import os; os.kill(os.getpid(), 9)"
    assert connect("local").run(python(code), timeout_s=30).returncode == -signal.SIGKILL


def test_at_the_deadline_the_command_dies_with_its_children(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(DeviceFailed, match="no answer within 1 s"):
        connect("local").run(python(FAMILY, tmp_path, 60), timeout_s=1)
    assert time.monotonic() - start < 10
    wait_until(lambda: processes_naming(tmp_path) == [], timeout_s=5)


def test_a_command_that_ends_leaves_no_child_behind(tmp_path: Path) -> None:
    assert connect("local").run(python(FAMILY, tmp_path, 0), timeout_s=30).returncode == 0
    wait_until(lambda: processes_naming(tmp_path) == [], timeout_s=5)


def test_an_interruption_is_passed_on_and_leaves_no_process(tmp_path: Path) -> None:
    with interrupted_when(lambda: len(processes_naming(tmp_path)) == 2), pytest.raises(KeyboardInterrupt):
        connect("local").run(python(FAMILY, tmp_path, 60), timeout_s=60)
    wait_until(lambda: processes_naming(tmp_path) == [], timeout_s=5)


def test_a_command_that_does_not_exist_is_a_failure_of_the_device() -> None:
    with pytest.raises(DeviceFailed, match="/no/such/python"):
        connect("local").run(["/no/such/python"], timeout_s=1)


def test_files_are_there_already_and_can_be_fetched(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_text("content")
    device = LocalDevice()
    there = device.push(source)
    device.pull(there, target)
    device.pull(there, source)
    assert source.read_text() == target.read_text() == "content"
    with pytest.raises(DeviceFailed, match="cannot be fetched"):
        device.pull(str(tmp_path / "c"), target)


def test_the_machine_is_described_without_its_name() -> None:
    import platform

    info = connect("local").info()
    assert info.device == "local"
    assert info.cpu
    assert info.logical_cpus >= 1
    assert info.memory_bytes > 2**28
    assert info.python == platform.python_version()
    assert {"torch", "onnxruntime", "numpy"} <= set(info.versions)
    assert "pytest" not in info.versions
    assert DeviceInfo.model_validate_json(info.model_dump_json()) == info
    node = platform.node()
    assert len(node) < 6 or node not in info.model_dump_json()


@pytest.mark.parametrize(
    ("address", "says"), [("lokal", "did you mean local"), ("usb:pi", "usb"), ("local:x", "no address")]
)
def test_a_device_that_does_not_exist_is_answered_with_the_known(address: str, says: str) -> None:
    with pytest.raises(UnknownName, match="device") as caught:
        connect(address)
    assert says in str(caught.value)
