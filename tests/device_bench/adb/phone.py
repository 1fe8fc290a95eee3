"""A phone for tests: a folder that looks like Android behind the real adb, a daemon of ours, and a stand-in tool."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ..conftest import processes_naming, wait_until

UNSHARE: Final = ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "--user", "--map-root-user", "--mount")
BELOW: Final = "data/local/tmp"
PROPERTIES: Final = {
    "ro.product.manufacturer": "Google",
    "ro.product.model": "Pixel 8 Pro",
    "ro.product.device": "husky",
    "ro.product.cpu.abi": "x86_64",
    "ro.product.cpu.abilist": "x86_64,x86",
    "ro.board.platform": "zuma",
    "ro.soc.manufacturer": "Google",
    "ro.soc.model": "Tensor G3",
    "ro.build.version.release": "14",
    "ro.build.version.sdk": "34",
    "ro.build.version.security_patch": "2024-05-05",
}
BATTERY: Final = """Current Battery Service state:
  AC powered: false
  USB powered: true
  status: 2
  health: 2
  present: true
  level: 87
  scale: 100
  voltage: 4213
  temperature: 326
  technology: Li-ion
"""
THERMAL: Final = """IsStatusOverride: false
ThermalEventListeners:
	callbacks: 2
Thermal Status: 0
Cached temperatures:
	Temperature{mValue=39.6, mType=0, mName=AP, mStatus=0}
	Temperature{mValue=0.0, mType=3, mName=SUBBAT, mStatus=0}
HAL Ready: true
Current temperatures from HAL:
	Temperature{mValue=41.5, mType=0, mName=AP, mStatus=0}
	Temperature{mValue=33.0, mType=2, mName=BAT, mStatus=0}
	Temperature{mValue=36.1, mType=3, mName=SKIN, mStatus=0}
Current cooling devices from HAL:
	CoolingDevice{mValue=0, mType=2, mName=thermal-cpufreq-0}
"""
SCRIPTS: Final = {
    "getprop": "cat /system/properties",
    "dumpsys": 'cat "/system/dumpsys.$1"',
    # The one setting: what it was set to, line by line, and a file that says how it is now.
    "cmd": '[ -e /system/has_mode ] || { echo "Unknown command: $2" >&2; exit 255; }\n'
    '[ "$1 $2" = "power set-fixed-performance-mode-enabled" ] || exit 255\n'
    'echo "$3" >>/system/mode.log; echo "$3" >/system/mode',
    # Prints what the tool prints, so long as the phone's /system/takes says.
    "stand_in": 'echo "$0 $*" >>/system/calls\n'
    'sleep "$(cat /system/takes)"\ncat /system/says\ncat /system/complains >&2\nexit "$(cat /system/ends)"',
}


def lacking() -> str:
    """Why there can be no such phone here; empty where there can."""
    if not shutil.which("adb"):
        return "there is no adb: apt-get install adb"
    if not shutil.which("unshare") or subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode:
        return "this machine gives no namespaces to lay a phone's folders out in"
    return ""


def executable(machine: int, *, path: str = "/system/bin/stand_in") -> bytes:
    """An ELF of 64 bits that runs `path` with its own arguments, on x86-64; one for another machine does not start."""
    # execve(path, argv, environ), and exit(127) if that fails; the path stands right behind.
    code = bytes.fromhex(
        "488b0c24 488d742408 488d54cc10 488d3d13000000 b83b000000 0f05 bf7f000000 b83c000000 0f05".replace(" ", "")
    )
    size = 64 + 56
    body = code + path.encode() + b"\0"
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0x400000 + size, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, size + len(body), size + len(body), 0x1000)
    return header + segment + body


class Phone:
    """One phone; what it says is in files below `root`, which a test may change."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.root, self._control = folder / "root", folder / "control.json"
        lay_out(self.root)
        self.control()
        self._log = folder / "adbd.log"
        self.port = self._start(port)

    @property
    def serial(self) -> str:
        return f"127.0.0.1:{self.port}"

    def control(self, **changes: Any) -> None:
        """How the daemon behaves; what is not named is as on any phone."""
        self._control.write_text(json.dumps(changes))

    def system(self, name: str, content: str) -> None:
        """What a script of this phone reads."""
        (self.root / "system" / name).write_text(content)

    def told(self, name: str) -> str:
        """What a script of this phone wrote; empty if it was never called."""
        path = self.root / "system" / name
        return path.read_text() if path.exists() else ""

    @property
    def files(self) -> list[Path]:
        """What was put there and is there still."""
        return sorted((self.root / BELOW).iterdir())

    def is_clean(self) -> bool:
        """Whether no file is left there, no process, and the one setting is as it was."""
        mode = self.told("mode").strip()
        return not self.files and not processes_naming("/data/local/tmp/evit-edge") and mode in ("", "false")

    def cut(self) -> None:
        """Drop the connection, once."""
        self._process.send_signal(signal.SIGUSR1)

    def vanish(self) -> None:
        """As if the cable was pulled out."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def come_back(self) -> None:
        """As if it was plugged in again."""
        self._start(self.port)

    def _start(self, port: int) -> int:
        here = Path(__file__).parent
        shell = [*UNSHARE, "sh", str(here / "enter.sh"), str(self.root)]
        command = [sys.executable, str(here / "adbd.py"), str(port), str(self.root), str(self._control), *shell]
        with self._log.open("a") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, start_new_session=True)
        assert self._process.stdout
        return int(self._process.stdout.readline())


def lay_out(root: Path) -> None:
    """The folders and files of a phone."""
    shutil.rmtree(root / "system", ignore_errors=True)
    shutil.rmtree(root / BELOW, ignore_errors=True)
    for folder in (BELOW, "system/bin", "sys/devices/system/cpu"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    system = root / "system"
    for name, body in SCRIPTS.items():
        (system / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (system / "bin" / name).chmod(0o755)
    properties = "".join(f"[{key}]: [{value}]\n" for key, value in PROPERTIES.items())
    files = {"properties": properties, "dumpsys.battery": BATTERY, "dumpsys.thermalservice": THERMAL, "has_mode": ""}
    files |= {"takes": "0", "says": "", "complains": "", "ends": "0"}
    for name, content in files.items():
        (system / name).write_text(content)
    clocks = {"cpuinfo_max_freq": (1704000, 2914000), "scaling_cur_freq": (910000, 2367000)}
    for cpu in range(2):
        cpufreq = root / f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
        cpufreq.mkdir(parents=True, exist_ok=True)
        (cpufreq / "scaling_governor").write_text("sched_pixel\n")
        for name, of_each in clocks.items():
            (cpufreq / name).write_text(f"{of_each[cpu]}\n")


def adb(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """The real client, as a user calls it."""
    return subprocess.run(["adb", *arguments], capture_output=True, text=True, check=check, timeout=60)


@contextmanager
def own_server(home: Path) -> Iterator[dict[str, str]]:
    """An adb server that nobody else talks to: the environment that its clients need."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {"ANDROID_ADB_SERVER_PORT": str(port), "HOME": str(home), "ADB_MDNS": "0", "TMPDIR": str(home)}
    environment = {**os.environ, **own}
    try:
        yield own
    finally:
        subprocess.run(["adb", "kill-server"], env=environment, capture_output=True, check=False, timeout=30)


def connected(phone: Phone) -> None:
    """Wait until adb says that the phone is there."""
    adb("connect", phone.serial)
    wait_until(lambda: adb("-s", phone.serial, "get-state", check=False).stdout.strip() == "device", timeout_s=15)
