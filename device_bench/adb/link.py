"""The system's `adb`, for one phone: commands with a whole answer, and files."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...models.errors import DeviceFailed, MissingDependency, UnknownName
from .failures import Gone, refused

ANSWER_S: Final = 60.0
# A megabyte a second is slower than any USB.
BYTES_A_SECOND: Final = 1e6
# A serial that begins with a minus would be an option.
SERIAL: Final = re.compile(r"[A-Za-z0-9_.:%\[\]][^\s]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a command ended there, and what it printed, errors too, with the ends of lines as on this machine."""

    status: int
    text: str


class Link:
    """The phone `serial`; all methods raise `DeviceFailed`, and `Gone` where the same may work again later."""

    def __init__(self, serial: str) -> None:
        self.serial = serial

    def shell(self, command: Sequence[str], *, timeout_s: float = ANSWER_S) -> Answer:
        """Run `command` there, each of its words as it is."""
        return self.script(shlex.join(command), timeout_s=timeout_s)

    def script(self, text: str, *, timeout_s: float = ANSWER_S) -> Answer:
        """Run a piece of shell with nothing in it from anywhere else; the answer counts only with its last line."""
        mark = uuid.uuid4().hex
        said = _adb(
            ["-s", self.serial, "shell", f"{{ {text}\n}} 2>&1; printf '\\n%s %s\\n' {mark} $?"], timeout_s=timeout_s
        )
        # Without the second protocol of adb's shell, ends of lines come as a terminal's.
        printed, found, status = said.stdout.replace("\r\n", "\n").rpartition(f"\n{mark} ")
        if not found or not re.fullmatch(r"[0-9]{1,3}\n", status):
            raise refused(self.serial, said.stderr or said.stdout)
        return Answer(status=int(status), text=printed)

    def push(self, source: Path, there: str) -> None:
        """Copy one file."""
        timeout_s = ANSWER_S + source.stat().st_size / BYTES_A_SECOND
        said = _adb(["-s", self.serial, "push", str(source), there], timeout_s=timeout_s)
        if said.returncode != 0:
            raise refused(self.serial, said.stderr + said.stdout)

    def pull(self, there: str, target: Path) -> None:
        """Copy one file to this machine."""
        said = _adb(["-s", self.serial, "pull", there, str(target)], timeout_s=10 * ANSWER_S)
        if said.returncode != 0:
            raise refused(self.serial, said.stderr + said.stdout)

    def call_again(self) -> None:
        """Ask for a phone that is reached over the network; one on a cable comes back by itself."""
        if re.search(r":[0-9]+$", self.serial):
            for verb in ("disconnect", "connect"):
                _adb([verb, self.serial], timeout_s=ANSWER_S)


def the_serial(where: str) -> str:
    """`where`, or the one phone that is there; raises `UnknownName` for what is no serial, and `DeviceFailed`."""
    if where and not SERIAL.fullmatch(where):
        raise UnknownName(f"unknown device 'adb:{where}'", "adb devices lists the serials")
    states = _listed(_adb(["devices"], timeout_s=ANSWER_S).stdout)
    if not where and len(states) > 1:
        raise DeviceFailed(f"there are {len(states)} devices", f"say which: {_named(states)}")
    if not where and not states:
        raise DeviceFailed("adb finds no device", "plug it in, and switch on USB debugging in its developer options")
    serial = where or next(iter(states))
    if serial not in states:
        raise DeviceFailed(f"there is no device {serial}", f"there is {_named(states) or 'none'}: see adb devices")
    if states[serial] != "device":
        raise refused(serial, states[serial])
    return serial


def _named(states: dict[str, str]) -> str:
    return ", ".join(f"adb:{serial}" for serial in states)


def _listed(text: str) -> dict[str, str]:
    """The state of each serial, by the lines after the heading; what the server says of itself begins with a star."""
    lines = text.replace("\r", "").partition("List of devices attached\n")[2].splitlines()
    found = (re.fullmatch(r"(\S+)\s+(.+?)(?:\s*[;(].*)?", line) for line in lines if not line.startswith("*"))
    return {each[1]: each[2].strip() for each in found if each}


def _adb(arguments: Sequence[str], *, timeout_s: float) -> subprocess.CompletedProcess[str]:
    tool = shutil.which("adb")
    if not tool:
        raise MissingDependency("there is no adb on this machine", "install Android's platform tools: apt install adb")
    process = subprocess.Popen(
        [tool, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise Gone(f"no answer from adb within {timeout_s:g} s", "plug the device in again, and try again") from error
    finally:
        # After Ctrl-C too: what reads its pipes must not outlive this.
        if process.poll() is None:
            process.kill()
            process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
