"""Fixtures: one adb server a file, a phone that is as new for each test, and a benchmark_model that plays a log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from evit_edge.converters.artifact import Artifact
from evit_edge.device_bench.adb import binary
from evit_edge.device_bench.adb.link import Link
from evit_edge.device_bench.on_adb import AdbDevice
from evit_edge.device_bench.remote import link as remote_link

from ..conftest import MakeArtifact, wait_until
from ..tflite_models import INPUTS, OUTPUTS, fixed, linear
from . import phone as phones
from .phone import Phone, adb, executable

X86_64: Final = 62
LOG: Final = """INFO: STARTING!
INFO: Loaded model /data/local/tmp/m.tflite
{delegate}INFO: The input model file size (MB): 0.008
INFO: Initialized session in 4.301ms.
INFO: Running benchmark for at least 3 iterations and at least 0.5 seconds but terminate if exceeding 3 seconds.
INFO: count=42 first=16321 curr=11793 min=11702 max=16321 avg=11940.6 std=690 p5=11714 median=11802 p95=12109

INFO: Running benchmark for at least 20 iterations and at least 0.5 seconds but terminate if exceeding 3 seconds.
INFO: count=85 first=11760 curr=11820 min=11698 max=12877 avg=11811.2 std=104 p5=11720 median=11799 p95=11931

INFO: Inference timings in us: Init: 4301, First inference: 16321, Warmup (avg): 11940.6, Inference (avg): 11811.2
INFO: Memory footprint delta from the start of the tool (MB): init=3.25 overall=9.5
INFO: Overall peak memory footprint (MB) via periodic monitoring: 14.125
"""
WHOLE: Final = (
    "INFO: Explicitly applied {} delegate, and the model graph will be completely executed by the delegate.\n"
)


@pytest.fixture(scope="module")
def phone_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    if reason := phones.lacking():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("phone")
    with phones.own_server(folder) as own, pytest.MonkeyPatch.context() as patch:
        for name, value in own.items():
            patch.setenv(name, value)
        phone = Phone(folder)
        phones.connected(phone)
        yield phone
        phone.vanish()


@pytest.fixture
def phone(phone_of_module: Phone, monkeypatch: pytest.MonkeyPatch) -> Iterator[Phone]:
    """A phone that is connected; after the test, nothing may be left on it."""
    phone = phone_of_module
    phone.control()
    phones.lay_out(phone.root)
    phone.system("says", LOG.format(delegate=WHOLE.format("XNNPACK")))
    monkeypatch.setattr(remote_link, "PAUSE_S", 0.1)
    yield phone
    wait_until(phone.is_clean, timeout_s=15)


@pytest.fixture
def device(phone: Phone) -> Iterator[AdbDevice]:
    """A session on the phone, which is left at the end."""
    device = AdbDevice(Link(phone.serial))
    yield device
    device.close()


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The benchmark_model that a user gives: an ELF that prints what the phone's `system/says` holds."""
    path = tmp_path / "benchmark_model"
    path.write_bytes(executable(X86_64))
    monkeypatch.setenv(binary.VARIABLE, str(path))
    return path


@pytest.fixture
def artifact(make_tflite: MakeArtifact) -> Artifact:
    """A TFLite file of one fully connected layer and a softmax, for batch 1."""
    return make_tflite(linear(batch=1), inputs=fixed(INPUTS, 1), outputs=fixed(OUTPUTS, 1))


def back_again(phone: Phone) -> None:
    """Have the phone and the server see each other, whatever happened before."""
    adb("disconnect", phone.serial, check=False)
    phones.connected(phone)
