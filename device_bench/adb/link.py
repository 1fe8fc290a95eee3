"""The system's `adb`, for one device: commands with a whole answer, and files."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from ...models.download import sha256_of
from ...models.errors import DeviceFailed, MissingDependency, UnknownName
from ..remote.link import BYTES_A_SECOND, LinkCut, marked, not_done, until_back
from .failures import refused

ANSWER_S: Final = 60.0
NOT_FOUND: Final = 127
# A serial that begins with a minus would be an option.
SERIAL: Final = re.compile(r"[A-Za-z0-9_.:%\[\]][^\s]*")
NETWORKED: Final = re.compile(r".+:[0-9]+")

Said = TypeVar("Said")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a command ended there, and what it printed, errors too, with the ends of lines as on this machine."""

    status: int
    text: str


class Link:
    """The device `serial`; all methods raise `DeviceFailed`, and `LinkCut` where the same may work again later."""

    def __init__(self, serial: str) -> None:
        self.host = self.serial = serial
        self._is_closed = False

    def ask(self, command: Sequence[str], *, timeout_s: float = ANSWER_S) -> dict[str, Any]:
        """Run `command` there, each word as it is, and again if the cable is cut; the answer is its one marked line."""
        return self.until_back(lambda: self._asked(command, timeout_s=timeout_s))

    def put(self, content: bytes, there: str, *, python: str) -> None:
        """Make the file `there`, whole or not at all, checked by a digest that is computed there."""
        with tempfile.TemporaryDirectory(prefix="evit-edge-") as scratch:
            source = Path(scratch, Path(there).name)
            source.write_bytes(content)
            self.until_back(lambda: self.place(source, there))

    def close(self) -> None:
        """There is nothing to end; what waits for the device to come back fails at once."""
        self._is_closed = True

    def until_back(self, ask: Callable[[], Said]) -> Said:
        """What `ask` gives, also if the device goes away meanwhile and comes back: it must bear being repeated."""
        return until_back(self.serial, ask, is_closed=lambda: self._is_closed, call_again=self.call_again)

    def place(self, source: Path, there: str) -> None:
        """Copy a file that is not there, under another name until its digest there is the right one."""
        wanted = sha256_of(source)
        if self.sha256(there) == wanted:
            return
        part = f"{there}.part"
        self.require(["mkdir", "-p", there.rpartition("/")[0]], what=f"make {there}")
        self.push(source, part)
        if self.sha256(part) != wanted:
            raise DeviceFailed(f"{source.name} arrived damaged on {self.serial}", "try again")
        self.require(["mv", part, there], what=f"name {there}")

    def sha256(self, there: str) -> str | None:
        """The digest of a file, as computed there; None where there is none."""
        answer = self.shell(["sha256sum", there])
        return answer.text.partition(" ")[0] if answer.status == 0 else None

    def require(self, command: Sequence[str], *, what: str, timeout_s: float = ANSWER_S) -> str:
        """What `command` prints; raises `DeviceFailed` if it fails: the device cannot do `what`."""
        answer = self.shell(command, timeout_s=timeout_s)
        if answer.status == 0:
            return answer.text
        said = " ".join(answer.text.split())[-200:]
        if "No space left" in said:
            raise DeviceFailed(
                f"the disk of {self.serial} is full", f"make room there: adb -s {self.serial} shell df -h"
            )
        raise DeviceFailed(
            f"{self.serial} cannot {what}: {said or f'status {answer.status}'}", f"see adb -s {self.serial} shell"
        )

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
        """Ask for a device that is reached over the network; one on a cable comes back by itself."""
        if NETWORKED.fullmatch(self.serial):
            with suppress(DeviceFailed):
                for verb in ("disconnect", "connect"):
                    _adb([verb, self.serial], timeout_s=ANSWER_S)

    def _asked(self, command: Sequence[str], *, timeout_s: float) -> dict[str, Any]:
        answer = self.shell(command, timeout_s=timeout_s)
        said = marked(answer.text.encode())
        if said is None and answer.status == NOT_FOUND:
            raise DeviceFailed(f"{self.serial} has no python3", "see docs/android.md for what works without")
        if said is None and answer.status == 0:
            raise LinkCut(f"the answer of {self.serial} did not arrive whole", "try again")
        if said is None:
            last = answer.text.strip().rpartition("\n")[2]
            raise DeviceFailed(f"{self.serial} ended with status {answer.status}: {last or 'it says nothing'}")
        if "error" in said:
            raise not_done(self.serial, str(said["error"]), said.get("errno"))
        return said


def the_serial(where: str) -> str:
    """`where`, or the one device that is there; raises `UnknownName` for what is no serial, and `DeviceFailed`."""
    if where and not SERIAL.fullmatch(where):
        raise UnknownName(f"unknown device 'adb:{where}'", "adb devices lists the serials")
    states = listed()
    if NETWORKED.fullmatch(where) and where not in states:
        # What adb was connected to over the network, it forgets when its server ends.
        _adb(["connect", where], timeout_s=ANSWER_S)
        states = listed()
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


def listed() -> dict[str, str]:
    """The state of each serial, as `adb devices` gives it; raises `MissingDependency`, or `DeviceFailed`."""
    return _listed(_adb(["devices"], timeout_s=ANSWER_S).stdout)


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
        raise LinkCut(
            f"no answer from adb within {timeout_s:g} s", "plug the device in again, and try again"
        ) from error
    finally:
        # After Ctrl-C too: what reads its pipes must not outlive this.
        if process.poll() is None:
            process.kill()
            process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
