"""Devices `adb:SERIAL`: an Android phone, reached by the system's `adb`; `adb` alone is the only one that is there.

A phone has no Python. `benchmark_model` measures there, which the user gives. All that is put there is in one folder of
the session below `/data/local/tmp/evit-edge`, and is taken away with every process when the session ends.
"""

from __future__ import annotations

import time
import uuid
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from ..converters import child
from ..models.download import sha256_of
from ..models.errors import DeviceFailed
from .adb import binary, facts, measure
from .adb.failures import Gone
from .adb.link import Link, the_serial
from .device import Connect, DeviceInfo, Finished
from .job import Measuring, OutputsJob, Reply, TimeJob
from .record import Conditions, FixedPerformance, Memory, Timing

FOLDER: Final = "/data/local/tmp/evit-edge"
AGENT: Final = Path(__file__).with_name("adb") / "agent.sh"
# How long one command waits for a run's end, and how long a phone that went away may take to come back.
PATIENCE_S: Final = 20
RETURN_S: Final = 60.0
PAUSE_S: Final = 1.0
KILLED: Final = 128
MODES: Final[tuple[FixedPerformance, ...]] = ("applied", "unsupported", "failed")

Said = TypeVar("Said")


class AdbDevice:
    """The phone `serial`."""

    # It has none.
    python = ""

    def __init__(self, serial: str) -> None:
        self._link = Link(serial)
        self._folder = f"{FOLDER}/{uuid.uuid4().hex}"
        self._agent = f"{self._folder}/agent.sh"
        self._mode: FixedPerformance | None = None
        self._close = weakref.finalize(self, partial(_leave, self._link, self._agent, self._folder))
        try:
            self._put(AGENT, self._agent)
            self._ask("sweep", FOLDER)
        except BaseException:
            self._close()
            raise

    def info(self) -> DeviceInfo:
        """What the phone is, now."""
        said, clocks = self._properties(), facts.clocks(self._link.script(facts.CLOCKS).text)
        frequencies = clocks.get("cpuinfo_max_freq", {})
        governors = clocks.get("scaling_governor", {})
        known = {
            **facts.identity(said, memory=self._read("/proc/meminfo"), processor=self._read("/proc/cpuinfo")),
            "device": f"adb:{self._link.serial}",
            "logical_cpus": len(frequencies) or 1,
            "kernel": self._told(["uname", "-sr"]).strip(),
            "python": "none",
            "governor": governors.get(0),
            "governors": tuple(sorted(set(governors.values()))) or None,
            "frequency_mhz": facts.fastest_mhz({0: clocks.get("scaling_cur_freq", {}).get(0, "")}),
            "max_frequency_mhz": facts.fastest_mhz(frequencies),
            "virtualised": None,
            "load_average": facts.load_average(self._read("/proc/loadavg")),
            "temperature_c": self._thermal()["temperature_c"],
            "versions": {},
        }
        try:
            return DeviceInfo.model_validate(known)
        except ValidationError as error:
            raise DeviceFailed(f"{self._link.serial} does not say properly what it is") from error

    def push(self, source: Path) -> str:
        """Put a file or folder there, unless the same content is, by a digest that is computed there; say where."""
        there = f"{self._folder}/{_digest(source)[:16]}/{source.name}"
        files = [file for file in sorted(source.rglob("*")) if file.is_file()] if source.is_dir() else [source]
        for file in files:
            self._put(file, f"{there}/{file.relative_to(source)}" if file != source else there)
        return there

    def run(self, command: Sequence[str], *, timeout_s: float) -> Finished:
        """Run a command, apart from the cable: a phone that comes back is asked again. The deadline is kept there."""
        status, text = self._finished(command, timeout_s=timeout_s)
        return Finished(returncode=status, tail=text[-child.TAIL_BYTES :])

    def pull(self, source: str, target: Path) -> None:
        """Fetch one file, whole or not at all."""
        part = target.with_name(f"{target.name}.part")
        try:
            self._link.pull(source, part)
            if sha256_of(part) != self._sha256(source):
                raise DeviceFailed(f"{source} of {self._link.serial} arrived damaged", "try again")
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def answer(self, job: Measuring | OutputsJob, reply: Path, *, timeout_s: float) -> None:
        """Do `job`, whose paths are of this machine, by one process of `benchmark_model`, and write `reply`."""
        work = measure.work(job)
        tool = binary.chosen()
        binary.require(tool, facts.abis(self._properties()))
        places = self.push(tool), self.push(work.artifact.payload)
        self._require(["chmod", "755", places[0]], what=f"make {places[0]} executable")
        before = self._conditions()
        status, text = self._finished([places[0], f"--graph={places[1]}", *work.arguments], timeout_s=timeout_s)
        after = self._conditions()
        if status != 0:
            raise DeviceFailed(f"benchmark_model {child.how_it_ended(status, text)}", "see docs/android.md")
        outcome = measure.read(text)
        if isinstance(job, TimeJob):
            pair = [each.model_copy(update={"fixed_performance": self._mode}) for each in (before, after)]
            found = measure.timing(work, outcome, text, binary_sha256=sha256_of(tool), conditions=pair)
            reply.write_text(Reply[Timing](answer=found).model_dump_json())
        else:
            reply.write_text(Reply[Memory](answer=measure.memory(outcome)).model_dump_json())

    def close(self) -> None:
        """End what runs there, and take away what was put there; done by itself when Python ends."""
        self._close()

    def _finished(self, command: Sequence[str], *, timeout_s: float) -> tuple[int, str]:
        """The exit status, -N for signal N, and all that was printed."""
        folder = f"{self._folder}/run-{uuid.uuid4().hex[:12]}"
        try:
            seconds = str(max(1, round(timeout_s)))
            self._retried(lambda: self._ask("start", folder, seconds, *command))
            state, status = self._waited(folder)
            said = self._read(f"{folder}/mode").strip()
            self._mode = next((mode for mode in MODES if mode == said), None)
            if state == "late":
                raise DeviceFailed(
                    f"no answer within {timeout_s:g} s; the process was stopped", "try a smaller batch or effort"
                )
            if state == "lost":
                raise DeviceFailed(
                    f"what watched over {Path(command[0]).name} on {self._link.serial} was killed", "try again"
                )
            # One after the other: both at once would cut into each other's lines.
            text = self._read(f"{folder}/out") + self._read(f"{folder}/err")
            return (status if status <= KILLED else KILLED - status), text
        finally:
            with suppress(DeviceFailed):
                self._ask("stop", folder)

    def _waited(self, folder: str) -> tuple[str, int]:
        while True:
            said = self._retried(lambda: self._ask("wait", folder, str(2 * PATIENCE_S)))
            state, _, status = said.strip().partition(" ")
            if state != "running":
                return state, int(status) if status.isdecimal() else 0

    def _retried(self, ask: Callable[[], Said]) -> Said:
        """The answer, also if the phone goes away meanwhile and comes back: to `ask` twice does nothing twice."""
        gone_at: float | None = None
        while True:
            try:
                return ask()
            except Gone as error:
                gone_at = gone_at or time.monotonic()
                if time.monotonic() - gone_at > RETURN_S:
                    message = f"{error.message}; it did not come back within {RETURN_S:g} s"
                    raise DeviceFailed(message, error.hint) from error
                time.sleep(PAUSE_S)
                with suppress(DeviceFailed):
                    self._link.call_again()

    def _conditions(self) -> Conditions:
        """How the phone is; its clock at rest says nothing of that at work, and is left out."""
        load = facts.load_average(self._read("/proc/loadavg"))
        battery = facts.battery(self._told(["dumpsys", "battery"]))
        return Conditions(load_average=load[0] if load else None, **self._thermal(), **battery)

    def _thermal(self) -> dict[str, Any]:
        return facts.thermal(self._told(["dumpsys", "thermalservice"]))

    def _properties(self) -> dict[str, str]:
        return facts.properties(self._told(["getprop"]))

    def _read(self, path: str) -> str:
        return self._told(["cat", path])

    def _told(self, command: Sequence[str]) -> str:
        """What a command that changes nothing prints; nothing if it fails."""
        answer = self._retried(lambda: self._link.shell(command))
        return answer.text if answer.status == 0 else ""

    def _put(self, source: Path, there: str) -> None:
        """Copy a file that is not there, under another name until its digest there is the right one."""
        wanted = sha256_of(source)
        if self._sha256(there) == wanted:
            return
        part = f"{there}.part"
        self._require(["mkdir", "-p", there.rpartition("/")[0]], what=f"make {there}")
        self._link.push(source, part)
        if self._sha256(part) != wanted:
            raise DeviceFailed(f"{source.name} arrived damaged on {self._link.serial}", "try again")
        self._require(["mv", part, there], what=f"name {there}")

    def _sha256(self, there: str) -> str | None:
        answer = self._link.shell(["sha256sum", there])
        return answer.text.partition(" ")[0] if answer.status == 0 else None

    def _ask(self, verb: str, folder: str, *arguments: str) -> str:
        return self._require(
            ["sh", self._agent, verb, folder, *arguments], what=f"{verb} there", timeout_s=2 * PATIENCE_S + PATIENCE_S
        )

    def _require(self, command: Sequence[str], *, what: str, timeout_s: float = 60.0) -> str:
        answer = self._link.shell(command, timeout_s=timeout_s)
        if answer.status == 0:
            return answer.text
        serial, said = self._link.serial, " ".join(answer.text.split())[-200:]
        if "No space left" in said:
            raise DeviceFailed(f"the disk of {serial} is full", f"make room there: adb -s {serial} shell df -h /data")
        raise DeviceFailed(f"{serial} cannot {what}: {said or f'status {answer.status}'}", f"see {FOLDER} there")


def _digest(source: Path) -> str:
    if source.is_file():
        return sha256_of(source)
    import hashlib

    parts = [(str(file.relative_to(source)), sha256_of(file)) for file in sorted(source.rglob("*")) if file.is_file()]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _leave(link: Link, agent: str, folder: str) -> None:
    with suppress(DeviceFailed):
        if link.shell(["sh", agent, "remove", folder]).status != 0:
            # Before it has its agent, there is nothing there that could run.
            link.shell(["rm", "-rf", folder])
            link.shell(["rmdir", FOLDER])


def connect_adb(where: str) -> AdbDevice:
    """The phone with the serial `where`, or the only one; raises `DeviceFailed`, or `MissingDependency` without adb."""
    return AdbDevice(the_serial(where))


DEVICE: Final[Connect] = connect_adb
