"""What this machine is: read from the kernel's files, with null for what it does not tell."""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from .conditions import ROOT, integer, text
from .device import DeviceInfo

DISTRIBUTION: Final = "evit-edge"
# Dot products, matrix units and half precision: what ONNX Runtime and XNNPACK look for before they choose a kernel.
FEATURES: Final = (
    *("sse4_1", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16"),
    *("avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
    *("neon", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
)


def this_machine(device: str, *, root: Path = ROOT) -> DeviceInfo:
    """The machine that this process runs on, recorded under the name `device`; `root` is where `proc` and `sys` are."""
    processor = text(root / "proc/cpuinfo") or ""
    cpus = root / "sys/devices/system/cpu"
    frequency_khz = integer(cpus / "cpu0/cpufreq/scaling_cur_freq")
    return DeviceInfo(
        device=device,
        cpu=_cpu(processor, root),
        logical_cpus=os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        os=_system(),
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        governor=text(cpus / "cpu0/cpufreq/scaling_governor") or None,
        frequency_mhz=frequency_khz / 1000 if frequency_khz else None,
        virtualised=_virtualised(processor),
        load_average=os.getloadavg(),
        versions=_versions(),
        cpu_features=_features(processor),
        **_cores(cpus),
        **_clocks(cpus),
    )


def _cpu(processor: str, root: Path) -> str:
    # ARM kernels name no model: the board's name is the nearest thing.
    named = re.search(r"^model name\s*:\s*(.+)$", processor, re.MULTILINE)
    board = text(root / "proc/device-tree/model")
    return (named[1] if named else board) or platform.processor() or platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.platform(terse=True)


def _virtualised(processor: str) -> bool | None:
    flags = re.search(r"^flags\s*:\s*(.+)$", processor, re.MULTILINE)
    return "hypervisor" in flags[1].split() if flags else None


def _features(processor: str) -> tuple[str, ...] | None:
    listed = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", processor, re.MULTILINE)
    return tuple(feature for feature in FEATURES if feature in listed[1].split()) if listed else None


def _cores(cpus: Path) -> dict[str, Any]:
    named = {file: integer(file) for file in cpus.glob("cpu[0-9]*/topology/core_id")}
    places = {
        (integer(file.with_name("physical_package_id")), core) for file, core in named.items() if core is not None
    }
    return {
        "physical_cores": len(places) or None,
        "smt": _switch(cpus / "smt/active"),
        "caches_bytes": _caches(cpus),
        "isolated_cpus": _isolated(text(cpus / "isolated")),
    }


def _clocks(cpus: Path) -> dict[str, Any]:
    fastest_khz = max((integer(path) or 0 for path in cpus.glob("cpu[0-9]*/cpufreq/cpuinfo_max_freq")), default=0)
    governors = {text(path) for path in cpus.glob("cpu[0-9]*/cpufreq/scaling_governor")}
    no_turbo = _switch(cpus / "intel_pstate/no_turbo")
    return {
        "max_frequency_mhz": fastest_khz / 1000 if fastest_khz > 0 else None,
        "governors": tuple(sorted(governor for governor in governors if governor)) or None,
        "boost": _switch(cpus / "cpufreq/boost") if no_turbo is None else not no_turbo,
    }


def _switch(path: Path) -> bool | None:
    said = integer(path)
    return bool(said) if said in (0, 1) else None


def _caches(cpus: Path) -> dict[str, int] | None:
    found: dict[str, int] = {}
    for folder in sorted(cpus.glob("cpu[0-9]*/cache/index[0-9]*")):
        name = {"1 Data": "L1d", "2 Unified": "L2", "3 Unified": "L3"}.get(
            f"{text(folder / 'level')} {text(folder / 'type')}"
        )
        size = re.fullmatch(r"([0-9]{1,9})K", text(folder / "size") or "")
        if name and size:
            found[name] = max(found.get(name, 0), int(size[1]) * 1024)
    return found or None


def _isolated(listed: str | None) -> tuple[int, ...] | None:
    """The CPUs of a list such as `1-3,6`; None for what is no such list."""
    if listed is None or not re.fullmatch(r"([0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*)?", listed):
        return None
    ranges = (part.partition("-")[::2] for part in listed.split(",") if part)
    return tuple(cpu for first, last in ranges for cpu in range(int(first), int(last or first) + 1))


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    with suppress(metadata.PackageNotFoundError):
        found[DISTRIBUTION] = metadata.version(DISTRIBUTION)
        for requirement in metadata.requires(DISTRIBUTION) or ():
            if re.search(r"extra == .dev.", requirement):
                continue
            name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
            with suppress(metadata.PackageNotFoundError):
                found[name] = metadata.version(name)
    return found
