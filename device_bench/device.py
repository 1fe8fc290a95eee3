"""Machines that can be measured: how to reach one, and nothing about models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from pydantic import BaseModel, ConfigDict

from ..models.plugins import PluginKind


class DeviceInfo(BaseModel):
    """What a machine is and how busy it was; null is what it does not tell. Its host name is not kept.

    `memory_bytes` is physical memory; `frequency_mhz` and `governor` are the first core's; `load_average` is
    over 1, 5 and 15 minutes; `versions` are those of the packages that are installed there. `caches_bytes` are the
    largest of any core, by `L1d`, `L2`, `L3`; `smt` says that cores run two threads at present, `boost` that they
    may exceed their nominal clock; `governors` are those of all logical CPUs, each named once;
    `isolated_cpus` are kept from other work; `cpu_features` are the kernel's names of the instructions that inference
    engines choose their kernels by. What only a remote device tells: `board` and `soc` as its device tree names them,
    the hottest sensor's `temperature_c`, the bits `throttled` of a Raspberry Pi, and whether it is `emulated`: then its
    latency says nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    device: str
    cpu: str
    logical_cpus: int
    memory_bytes: int
    os: str
    kernel: str
    python: str
    governor: str | None
    frequency_mhz: float | None
    virtualised: bool | None
    load_average: tuple[float, float, float] | None
    versions: dict[str, str]
    physical_cores: int | None = None
    smt: bool | None = None
    caches_bytes: dict[str, int] | None = None
    max_frequency_mhz: float | None = None
    boost: bool | None = None
    governors: tuple[str, ...] | None = None
    isolated_cpus: tuple[int, ...] | None = None
    cpu_features: tuple[str, ...] | None = None
    board: str | None = None
    soc: str | None = None
    temperature_c: float | None = None
    throttled: int | None = None
    emulated: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a command ended: its exit status, -N where signal N killed it, and the end of what it printed."""

    returncode: int
    tail: str


class Device(Protocol):
    """A machine, with `python` as the interpreter there, which has this package unless the device is a `job.Foreign`.

    All methods raise `DeviceFailed`.
    """

    python: str

    def info(self) -> DeviceInfo:
        """What the machine is, now."""

    def push(self, source: Path) -> str:
        """Put a file or folder there, and say where it is."""

    def run(self, command: Sequence[str], *, timeout_s: float) -> Finished:
        """Run a command; at the deadline, or an interruption here, it dies with every process it started."""

    def pull(self, source: str, target: Path) -> None:
        """Fetch one file."""

    def interrupt(self) -> None:
        """End what runs there, whichever thread waits for it, and run nothing more."""


Connect = Callable[[str], Device]
"""The plug-in `DEVICE` of a file `on_*.py`: a device from the part of its address after the colon."""

DEVICES: Final = PluginKind(noun="device", package=__package__, prefix="on_", attribute="DEVICE")


def connect(address: str) -> Device:
    """The device at `local` or `kind:where`; raises `UnknownName`, or `DeviceFailed` if it does not answer."""
    kind, _, where = address.partition(":")
    make: Connect = DEVICES.load(kind)
    return make(where)


Listed = Callable[[], Sequence[tuple[str, str]]]
"""The optional plug-in `LISTED` of a file `on_*.py`: addresses known without connecting, and who names them."""
