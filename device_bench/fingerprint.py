"""What this machine is: read from the kernel's files, with null for what it does not tell."""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Final

from .device import DeviceInfo

DISTRIBUTION: Final = "evit-edge"
CPUFREQ: Final = Path("/sys/devices/system/cpu/cpu0/cpufreq")


def this_machine(device: str) -> DeviceInfo:
    """The machine that this process runs on, recorded under the name `device`."""
    processor = _text(Path("/proc/cpuinfo"))
    frequency_khz = _text(CPUFREQ / "scaling_cur_freq")
    return DeviceInfo(
        device=device,
        cpu=_cpu(processor),
        logical_cpus=os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        os=_system(),
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        governor=_text(CPUFREQ / "scaling_governor") or None,
        frequency_mhz=int(frequency_khz) / 1000 if frequency_khz else None,
        virtualised=_virtualised(processor),
        load_average=os.getloadavg(),
        versions=_versions(),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text().strip("\0\n ")
    except OSError:
        return ""


def _cpu(processor: str) -> str:
    # ARM kernels name no model: the board's name is the nearest thing.
    named = re.search(r"^model name\s*:\s*(.+)$", processor, re.MULTILINE)
    board = _text(Path("/proc/device-tree/model"))
    return (named[1] if named else board) or platform.processor() or platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.platform(terse=True)


def _virtualised(processor: str) -> bool | None:
    flags = re.search(r"^flags\s*:\s*(.+)$", processor, re.MULTILINE)
    return "hypervisor" in flags[1].split() if flags else None


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
