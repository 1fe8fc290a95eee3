"""How busy, fast and warm this machine is at a moment, from the kernel's files and a fixed piece of work.

Needs nothing but the standard library to read them, so that a board with nothing else can; `now` makes the record.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .record import Conditions

ROOT: Final = Path("/")
FIRMWARE_TIMEOUT_S: Final = 1.0
# About 10 ms on a server of 2023. A hash in registers, since a loop in Python differs more from process to process.
PROBE_ITERATIONS: Final = 45_000
PROBE_REPEATS: Final = 5
# Outside of this a sensor is absent or broken: 0 °C is what many report that measure nothing.
CREDIBLE_C: Final = (0.0, 150.0)


def now(*, probe: bool, root: Path = ROOT) -> Conditions:
    """The conditions at this moment; with `probe`, which takes about 50 ms, also what a fixed piece of work takes.

    The clock frequency is read right after the probe, while a core is still busy. `root` is where `proc` and `sys` are.
    """
    from .record import Conditions

    return Conditions(
        probe_ns=probe_ns() if probe else None,
        frequency_mhz=frequency_mhz(root),
        temperature_c=temperature_c(root),
        load_average=load_average(root),
        stolen_s=stolen_s(root),
        throttled=throttled(),
    )


def text(path: Path) -> str | None:
    """What a file of the kernel says, without its end of line; None if it cannot be read."""
    try:
        return path.read_bytes().decode(errors="replace").strip("\0\n ")
    except OSError:
        return None


def integer(path: Path) -> int | None:
    """The one integer in a file of the kernel; None if it cannot be read, or holds something else."""
    found = re.fullmatch(r"-?[0-9]{1,18}", text(path) or "")
    return int(found[0]) if found else None


def probe_ns() -> int:
    """Nanoseconds that a fixed hash takes, the best of five: more of them means a slower clock."""
    taken = []
    for _ in range(PROBE_REPEATS):
        start = time.perf_counter_ns()
        hashlib.pbkdf2_hmac("sha256", b"probe", b"fixed work", PROBE_ITERATIONS)
        taken.append(time.perf_counter_ns() - start)
    return min(taken)


def load_average(root: Path) -> float | None:
    """Processes that ran or waited for the disk, on average over the last minute."""
    found = re.match(r"([0-9]{1,6}\.[0-9]{1,6})\s", text(root / "proc/loadavg") or "")
    return float(found[1]) if found else None


def frequency_mhz(root: Path) -> float | None:
    """The clock of the core that runs fastest at this moment."""
    found = [integer(path) or 0 for path in root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")]
    return max(found) / 1000 if max(found, default=0) > 0 else None


def temperature_c(root: Path) -> float | None:
    """The hottest sensor's."""
    sensors = (*root.glob("sys/class/thermal/thermal_zone*/temp"), *root.glob("sys/class/hwmon/*/temp*_input"))
    low, high = CREDIBLE_C
    found = [(integer(path) or 0) / 1000 for path in sensors]
    return max((degrees for degrees in found if low < degrees < high), default=None)


def stolen_s(root: Path) -> float | None:
    """CPU seconds that the hypervisor gave to others while this machine wanted them, since it started."""
    found = re.match(r"cpu +(?:[0-9]+ ){7}([0-9]{1,18})\b", text(root / "proc/stat") or "")
    return int(found[1]) / os.sysconf("SC_CLK_TCK") if found else None


def throttled() -> int | None:
    """The bits of a Raspberry Pi's `vcgencmd get_throttled`: 0 to 3 are now, 16 to 19 at any time since it started."""
    tool = shutil.which("vcgencmd")
    if tool is None:
        return None
    try:
        done = subprocess.run([tool, "get_throttled"], capture_output=True, timeout=FIRMWARE_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.fullmatch(rb"throttled=0x([0-9a-fA-F]{1,8})\s*", done.stdout)
    return int(found[1], 16) if found else None
