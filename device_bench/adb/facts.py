"""What a phone says of itself, read; null is what it does not tell, or says in words that are not known. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from ..conditions import CREDIBLE_C
from ..fingerprint import FEATURES

# All in one go, with the file's name before each value: some of them cannot be read, and are left out.
CLOCKS: Final = (
    "grep -H -s '' /sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor "
    "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq "
    "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq"
)
STATUS_RANGE: Final = range(7)
# Tenths of a degree. Below, some phones say degrees, and a cold one would look the same.
CREDIBLE_TENTHS: Final = range(100, 1000)


def properties(text: str) -> dict[str, str]:
    """What `getprop` prints; a value may have several lines."""
    return dict(re.findall(r"^\[([^\]\n]+)\]: \[(.*?)\]$", text, re.MULTILINE | re.DOTALL))


def clocks(text: str) -> dict[str, dict[int, str]]:
    """What `CLOCKS` prints: of each file's name, the value by the number of the core."""
    found: dict[str, dict[int, str]] = {}
    for cpu, name, value in re.findall(r"^\S*/cpu([0-9]{1,4})/cpufreq/(\w+):(\S+)$", text, re.MULTILINE):
        found.setdefault(name, {})[int(cpu)] = value
    return found


def fastest_mhz(of_cores: Mapping[int, str]) -> float | None:
    """The largest of kilohertz, as megahertz."""
    found = [int(value) for value in of_cores.values() if re.fullmatch(r"[0-9]{1,9}", value)]
    return max(found) / 1000 if max(found, default=0) > 0 else None


def thermal(text: str) -> dict[str, Any]:
    """Of `dumpsys thermalservice` (Android 10 and newer): its status, 0 to 6, and the hottest sensor's temperature."""
    status = re.search(r"^\s*Thermal Status: ([0-9])$", text, re.MULTILINE)
    # What is cached is from the last change of status.
    current = text.partition("Current temperatures from HAL:")[2] or text
    told = re.findall(
        r"\bTemperature\{mValue=(-?[0-9]{1,4}\.[0-9]{1,9}), mType=-?[0-9]+,", current.partition("ooling")[0]
    )
    low, high = CREDIBLE_C
    return {
        "thermal_status": int(status[1]) if status and int(status[1]) in STATUS_RANGE else None,
        "temperature_c": max((float(each) for each in told if low < float(each) < high), default=None),
    }


def battery(text: str) -> dict[str, Any]:
    """Of `dumpsys battery`: charge in percent, temperature, and whether both are made up by a command."""
    level, scale, tenths = (_number(text, name) for name in ("level", "scale", "temperature"))
    return {
        "battery_percent": _percent(level, scale),
        "battery_c": tenths / 10 if tenths is not None and tenths in CREDIBLE_TENTHS else None,
        "faked": "UPDATES STOPPED" in text if text.lstrip().startswith("Current Battery Service state") else None,
    }


def load_average(text: str) -> tuple[float, float, float] | None:
    """Of `/proc/loadavg`, over 1, 5 and 15 minutes."""
    found = re.match(r"([0-9]{1,6}\.[0-9]{1,6}) ([0-9]{1,6}\.[0-9]{1,6}) ([0-9]{1,6}\.[0-9]{1,6}) ", text)
    return (float(found[1]), float(found[2]), float(found[3])) if found else None


def identity(said: Mapping[str, str], *, memory: str, processor: str) -> dict[str, Any]:
    """Of `getprop`, `/proc/meminfo` and `/proc/cpuinfo`: the fields of a `DeviceInfo` that do not change."""
    soc = " ".join(filter(None, (said.get("ro.soc.manufacturer"), said.get("ro.soc.model"))))
    soc = soc or said.get("ro.board.platform") or "unknown"
    model = " ".join(filter(None, (said.get("ro.product.manufacturer"), said.get("ro.product.model"))))
    total = re.search(r"^MemTotal: +([0-9]{1,12}) kB$", memory, re.MULTILINE)
    listed = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", processor, re.MULTILINE)
    version, level = said.get("ro.build.version.release", "?"), said.get("ro.build.version.sdk", "?")
    return {
        "cpu": f"{soc}, {said.get('ro.product.cpu.abi', 'unknown ABI')}",
        "soc": soc,
        "board": f"{model} ({said.get('ro.product.device', '?')})",
        "os": f"Android {version} (API {level}), security patch {said.get('ro.build.version.security_patch', '?')}",
        "memory_bytes": int(total[1]) * 1024 if total else 0,
        "cpu_features": tuple(each for each in FEATURES if each in listed[1].split()) if listed else None,
        "emulated": "1" in (said.get("ro.kernel.qemu"), said.get("ro.boot.qemu")),
    }


def abis(said: Mapping[str, str]) -> tuple[str, ...]:
    """What the phone runs, best first."""
    listed = said.get("ro.product.cpu.abilist") or said.get("ro.product.cpu.abi") or ""
    return tuple(each for each in listed.split(",") if each)


def _percent(level: int | None, scale: int | None) -> float | None:
    if level is None or scale is None or not 0 <= level <= scale or scale == 0:
        return None
    return round(100 * level / scale, 1)


def _number(text: str, name: str) -> int | None:
    found = re.search(rf"^\s*{name}: (-?[0-9]{{1,9}})$", text, re.MULTILINE)
    return int(found[1]) if found else None
