"""What this machine can do: which targets can be written, which runtimes run, and what to install for the rest."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from ..converters.conversion import CONVERTERS
from ..models.download import cache_folder
from ..models.errors import MissingDependency
from ..models.plugins import PluginKind
from . import conditions, resolution
from .device import DeviceInfo, connect
from .session import RUNTIMES, Bound

FREE_ENOUGH: Final = 2 * 2**30
THROTTLED_NOW: Final = 0xF


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report; `advice` is empty where nothing needs to be done."""

    subject: str
    state: Literal["ok", "missing", "warning"]
    detail: str
    advice: str = ""


def examine() -> list[Finding]:
    """Look at the machine, every target, every runtime and the cache; changes nothing."""
    return [*_machine(), *_arithmetic(), *_plugins(), _cache()]


def _machine() -> Iterator[Finding]:
    info = connect("local").info()
    yield Finding(subject="python", state="ok", detail=f"{platform.python_version()}, {platform.platform()}")
    instructions = ", ".join(info.cpu_features or ()) or "instructions unknown"
    yield Finding(subject="cpu", state="ok", detail=f"{info.cpu}, {info.logical_cpus} logical CPUs; {instructions}")
    yield _clock(info)
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else info.logical_cpus
    busy = os.getloadavg()[0] > 0.5 * cpus
    yield Finding(
        subject="load",
        state="warning" if busy else "ok",
        detail=f"load average {os.getloadavg()[0]:.2f} on {cpus} usable CPUs",
        advice="other programs are running: latency figures will be wide" if busy else "",
    )
    yield _resolution(info)


def _clock(info: DeviceInfo) -> Finding:
    if (conditions.throttled() or 0) & THROTTLED_NOW:
        advice = "cool the board, and give it a stronger power supply"
        return Finding(subject="clock", state="warning", detail="throttled at this moment", advice=advice)
    if info.governors is None:
        return Finding(subject="clock", state="ok", detail="unknown: this system does not tell, as most VMs do not")
    detail = f"governor {', '.join(info.governors)}"
    if info.max_frequency_mhz:
        detail += f", at most {info.max_frequency_mhz:.0f} MHz"
    if info.governors == ("performance",):
        return Finding(subject="clock", state="ok", detail=detail)
    advice = "the clock follows the load; it is steadier after: sudo cpupower frequency-set --governor performance"
    return Finding(subject="clock", state="warning", detail=detail, advice=advice)


def _resolution(info: DeviceInfo) -> Finding:
    floor = resolution.noise_floor(info)
    if floor is None:
        days, advice = resolution.KEPT.days, "evit-edge doctor --measure"
        return Finding(
            subject="noise floor", state="missing", detail=f"not measured in the last {days} days", advice=advice
        )
    return Finding(subject="noise floor", state="ok", detail=f"a change under {floor:.1%} means nothing here")


def _arithmetic() -> Iterator[Finding]:
    from ..converters.onnx import host

    if not all(importlib.util.find_spec(package) for package in ("onnx", "onnxruntime")):
        return
    found = host.measured_host()
    exact = found not in host.UNSIGNED
    yield Finding(
        subject="integer arithmetic",
        state="ok" if exact else "warning",
        detail=f"{'exact' if exact else 'saturates: products of int8 weights are cut off'} in ONNX Runtime ({found})",
        advice="" if exact else f"run int8 ONNX files that were made with --host {found}: their weights are uint8",
    )


def _plugins() -> Iterator[Finding]:
    for kind in (CONVERTERS, RUNTIMES):
        for name in kind.names():
            yield _plugin(kind, name)


def _plugin(kind: PluginKind, name: str) -> Finding:
    subject = f"{kind.noun} {name}"
    try:
        plugin = kind.load(name)
        requires = plugin.requires
    except MissingDependency as error:
        return Finding(subject=subject, state="missing", detail=error.message, advice=error.hint)
    absent = [module for module in requires if importlib.util.find_spec(module) is None]
    if absent:
        return Finding(
            subject=subject,
            state="missing",
            detail=f"not installed: {', '.join(absent)}",
            advice=f"pip install {' '.join(absent)}",
        )
    if lacking := plugin.lacks() if isinstance(plugin, Bound) else "":
        return Finding(subject=subject, state="missing", detail=lacking)
    return Finding(subject=subject, state="ok", detail=", ".join(_version(module) for module in requires))


def _version(module: str) -> str:
    packages = importlib.metadata.packages_distributions().get(module, [])
    return f"{module} {importlib.metadata.version(packages[0])}" if packages else module


def _cache() -> Finding:
    folder = cache_folder()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(existing, os.W_OK):
        advice = "set EVIT_EDGE_CACHE to a folder that can be written"
        return Finding(subject="cache", state="warning", detail=f"{folder} cannot be written", advice=advice)
    free = shutil.disk_usage(existing).free
    return Finding(
        subject="cache",
        state="ok" if free > FREE_ENOUGH else "warning",
        detail=f"{folder}, {free / 2**30:.1f} GiB free",
        advice="" if free > FREE_ENOUGH else "free some space, or set EVIT_EDGE_CACHE",
    )
