"""Devices `adb:SERIAL`: a phone or board, reached by the system's `adb`; `adb` alone is the only one that is there.

An Android phone has no Python: `benchmark_model` measures there, which the user gives. Where there is a Python, our
runner measures as on a board over ssh. All that is put there is in folders of the session, and is taken away with every
process when the session ends.
"""

from __future__ import annotations

import tempfile
import uuid
import weakref
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from ..converters import child
from ..models.download import sha256_of
from ..models.errors import DeviceFailed, Unsupported
from .adb import binary, facts, measure, outputs
from .adb.link import Link, the_serial
from .benchmark_runtime import BenchmarkModelRuntime
from .device import Connect, DeviceInfo, Finished
from .job import Done, Measuring, OutputsJob, Reply, TimeJob
from .record import Conditions, FixedPerformance, Memory, Timing
from .remote.device import RunnerDevice
from .remote.link import digest, files_in
from .remote.orders import order
from .session import RUNTIMES
from .ssh import known
from .tools.outcome import Outcome

FOLDER: Final = "/data/local/tmp/evit-edge"
AGENT: Final = Path(__file__).with_name("adb") / "agent.sh"
# How long one command waits for a run's end.
PATIENCE_S: Final = 20
KILLED: Final = 128
MODES: Final[tuple[FixedPerformance, ...]] = ("applied", "unsupported", "failed")


class AdbDevice:
    """The phone behind `link`; `interpreter` is a Python there, if it has one."""

    # This package is on none.
    python = ""

    def __init__(self, link: Link, interpreter: str = "python3") -> None:
        self._link = link
        self._folder = f"{FOLDER}/{uuid.uuid4().hex}"
        self._agent = f"{self._folder}/agent.sh"
        self._mode: FixedPerformance | None = None
        self._running, self._is_interrupted = "", False
        self._runner: RunnerDevice | None = None
        self._close = weakref.finalize(self, partial(_leave, self._link, self._agent, self._folder))
        try:
            self._link.place(AGENT, self._agent)
            self._ask("sweep", FOLDER)
            if has_python(link, interpreter):
                # A link of its own: each of them ends with its device.
                self._runner = RunnerDevice(Link(link.serial), f"adb:{link.serial}", interpreter)
        except BaseException:
            self._close()
            raise

    def runtimes(self) -> Sequence[str]:
        """Those of the runner where there is Python, which tells every sample; then `benchmark_model`'s."""
        return [*(self._runner.runtimes() if self._runner else ()), *measure.runtimes()]

    def info(self) -> DeviceInfo:
        """What the phone is, now."""
        there = self._runner.info() if self._runner else None
        said, clocks = self._properties(), facts.clocks(self._link.script(facts.CLOCKS).text)
        frequencies = clocks.get("cpuinfo_max_freq", {})
        governors = clocks.get("scaling_governor", {})
        known = {
            **facts.identity(said, memory=self._read("/proc/meminfo"), processor=self._read("/proc/cpuinfo")),
            "device": f"adb:{self._link.serial}",
            "logical_cpus": len(frequencies) or 1,
            "kernel": self._told(["uname", "-sr"]).strip(),
            "python": there.python if there else "none",
            "governor": governors.get(0),
            "governors": tuple(sorted(set(governors.values()))) or None,
            "frequency_mhz": facts.fastest_mhz({0: clocks.get("scaling_cur_freq", {}).get(0, "")}),
            "max_frequency_mhz": facts.fastest_mhz(frequencies),
            "virtualised": None,
            "load_average": facts.load_average(self._read("/proc/loadavg")),
            "temperature_c": self._thermal()["temperature_c"],
            "versions": there.versions if there else {},
        }
        try:
            return DeviceInfo.model_validate(known)
        except ValidationError as error:
            raise DeviceFailed(f"{self._link.serial} does not say properly what it is") from error

    def push(self, source: Path) -> str:
        """Put a file or folder there, unless the same content is, by a digest that is computed there; say where."""
        there = f"{self._folder}/{digest(source)[:16]}/{source.name}"
        if source.is_file():
            self._link.place(source, there)
        for name, file in files_in(source).items():
            self._link.place(file, f"{there}/{name}")
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
            if sha256_of(part) != self._link.sha256(source):
                raise DeviceFailed(f"{source} of {self._link.serial} arrived damaged", "try again")
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def answer(self, job: Measuring | OutputsJob, reply: Path, *, timeout_s: float) -> None:
        """Do `job`, whose paths are of this machine, by the engine that it names, and write `reply`."""
        if isinstance(RUNTIMES.load(job.runtime), BenchmarkModelRuntime):
            found = self._told_by_tool(job, timeout_s=timeout_s)
            reply.write_text(found.model_dump_json())
        elif self._runner:
            self._runner.answer(job, reply, timeout_s=timeout_s)
        else:
            raise Unsupported(
                f"{job.runtime} needs a Python on the device, and there is none",
                f"try --runtime {measure.runtimes()[0]}",
            )

    def _told_by_tool(self, job: Measuring | OutputsJob, *, timeout_s: float) -> Reply[Any]:
        """By one process of `benchmark_model`, or for outputs by as many as there are batches of inputs."""
        work = measure.work(job)
        tool = binary.chosen()
        binary.require(tool, facts.abis(self._properties()))
        places = self.push(tool), self.push(work.artifact.payload)
        self._link.require(["chmod", "755", places[0]], what=f"make {places[0]} executable")
        command = [places[0], f"--graph={places[1]}", *work.arguments]
        if isinstance(job, OutputsJob):
            self._save_outputs(job, command, timeout_s=timeout_s)
            return Reply[Done](answer=Done())
        before = self._conditions()
        outcome, text = self._outcome(command, timeout_s=timeout_s)
        after = self._conditions()
        if not isinstance(job, TimeJob):
            return Reply[Memory](answer=measure.memory(outcome))
        pair = [each.model_copy(update={"fixed_performance": self._mode}) for each in (before, after)]
        return Reply[Timing](answer=measure.timing(work, outcome, text, binary_sha256=sha256_of(tool), conditions=pair))

    def _save_outputs(self, job: OutputsJob, command: Sequence[str], *, timeout_s: float) -> None:
        answer = f"{self._folder}/outputs.bin"
        with tempfile.TemporaryDirectory(prefix="evit-edge-") as folder:
            scratch, answers = Path(folder), []
            exchange = outputs.exchange(order(job, scratch))
            for files in exchange.batches(scratch):
                arguments = exchange.arguments([self.push(file) for file in files], answer=answer)
                self._outcome([*command, *arguments], timeout_s=timeout_s)
                self.pull(answer, scratch / "outputs.bin")
                # A run that wrote nothing would leave it to be taken for its own.
                self._link.require(["rm", answer], what=f"remove {answer}")
                answers.append((scratch / "outputs.bin").read_bytes())
            exchange.keep(answers, scratch, Path(job.outputs))

    def _outcome(self, command: Sequence[str], *, timeout_s: float) -> tuple[Outcome, str]:
        status, text = self._finished(command, timeout_s=timeout_s)
        if status != 0:
            raise DeviceFailed(f"benchmark_model {child.how_it_ended(status, text)}", "see docs/android.md")
        return measure.read(text), text

    def interrupt(self) -> None:
        """End what runs there, whichever thread waits for it, and run nothing more."""
        self._is_interrupted = True
        if self._runner:
            self._runner.interrupt()
        if self._running:
            self._ask("stop", self._running)

    def close(self) -> None:
        """End what runs there, and take away what was put there; done by itself when Python ends."""
        if self._runner:
            self._runner.close()
        self._close()

    def _finished(self, command: Sequence[str], *, timeout_s: float) -> tuple[int, str]:
        """The exit status, -N for signal N, and all that was printed."""
        folder = self._running = f"{self._folder}/run-{uuid.uuid4().hex[:12]}"
        try:
            if self._is_interrupted:
                raise DeviceFailed("the run was ended")
            seconds = str(max(1, round(timeout_s)))
            self._link.until_back(lambda: self._ask("start", folder, seconds, *command))
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
            said = self._link.until_back(lambda: self._ask("wait", folder, str(2 * PATIENCE_S)))
            state, _, status = said.strip().partition(" ")
            if state != "running":
                return state, int(status) if status.isdecimal() else 0

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
        answer = self._link.until_back(lambda: self._link.shell(command))
        return answer.text if answer.status == 0 else ""

    def _ask(self, verb: str, folder: str, *arguments: str) -> str:
        return self._link.require(
            ["sh", self._agent, verb, folder, *arguments], what=f"{verb} there", timeout_s=2 * PATIENCE_S + PATIENCE_S
        )


def has_python(link: Link, interpreter: str) -> bool:
    """Whether a shell there finds `interpreter`."""
    return link.shell(["command", "-v", interpreter]).status == 0


def _leave(link: Link, agent: str, folder: str) -> None:
    with suppress(DeviceFailed):
        if link.shell(["sh", agent, "remove", folder]).status != 0:
            # Before it has its agent, there is nothing there that could run.
            link.shell(["rm", "-rf", folder])
            link.shell(["rmdir", FOLDER])
    link.close()


def connect_adb(where: str) -> AdbDevice | RunnerDevice:
    """The device with the serial `where`, or the only one: a phone, or a board that has Python and no Android.

    Raises `DeviceFailed`, or `MissingDependency` without adb.
    """
    link = Link(the_serial(where))
    interpreter = known.python_of(f"adb:{link.serial}")
    if link.shell(["command", "-v", "getprop"]).status != 0 and has_python(link, interpreter):
        return RunnerDevice(link, f"adb:{link.serial}", interpreter)
    return AdbDevice(link, interpreter)


DEVICE: Final[Connect] = connect_adb
