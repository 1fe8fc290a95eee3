"""A machine with Python and an engine, on which our runner is put, whatever the link to it is.

All that is put there is in one folder of the session, and is taken away with every process when the session ends.
"""

from __future__ import annotations

import base64
import hashlib
import tempfile
import time
import uuid
import weakref
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from ...converters import child
from ...models.download import sha256_of
from ...models.errors import DeviceBusy, DeviceFailed, Unsupported
from ..device import DeviceInfo, Finished
from ..job import Measuring, OutputsJob
from ..session import RUNTIMES
from . import runner
from .link import Link, digest, files_in
from .orders import order

OLDEST_PYTHON: Final = (3, 10)
# How long one connection waits for a command's end, before the next does.
PATIENCE_S: Final = 20.0
# How long another session may keep the machine: a long run, whose trials take turns with ours.
BUSY_S: Final = 900.0
ANSWER_S: Final = 60.0


class RunnerDevice:
    """The machine behind `link`, called `address` in results; `interpreter` is a Python there."""

    def __init__(self, link: Link, address: str, interpreter: str = "python3") -> None:
        self._link, self._address = link, address
        self._running, self._is_interrupted = "", False
        self._close: weakref.finalize[[], RunnerDevice] = weakref.finalize(self, link.close)
        seen = link.ask([interpreter, "-I", "-c", runner.first(), "look"], timeout_s=ANSWER_S)
        self.python = _suitable(seen, link.host)
        self._folder = f"{seen['folder']}/{uuid.uuid4().hex}"
        self._runner = f"{self._folder}/runner.pyz"
        self._close.detach()
        self._close = weakref.finalize(
            self, partial(_leave, self._link, [self.python, self._runner, "remove", self._folder])
        )
        with tempfile.TemporaryDirectory(prefix="evit-edge-") as scratch:
            built = Path(scratch, "runner.pyz")
            runner.build(built)
            self._put(built, self._runner)
        self._ask("sweep", self._folder)

    def info(self) -> DeviceInfo:
        """What the board is, now."""
        try:
            return DeviceInfo.model_validate(self._ask("facts", self._address))
        except ValidationError as error:
            raise DeviceFailed(f"{self._link.host} does not say properly what it is") from error

    def runtimes(self) -> Sequence[str]:
        """Those whose engine is there; all that can be there where none is, since then each says what to install."""
        versions = self.info().versions
        packages = {name: RUNTIMES.load(name).requires[0].replace("_", "-") for name in runner.runtimes()}
        return [name for name, package in packages.items() if package in versions] or list(packages)

    def push(self, source: Path) -> str:
        """Put a file or folder there, unless the same content is, by a digest that is computed there; say where."""
        if source.is_dir():
            there = f"{self._folder}/{digest(source)[:16]}"
            self._put_missing({f"{there}/{name}": file for name, file in files_in(source).items()})
            return there
        there = self._place(source)
        self._put_missing({there: source})
        return there

    def run(self, command: Sequence[str], *, timeout_s: float) -> Finished:
        """Run a command, apart from the link: a cut one is made again. The deadline is kept there, not here."""
        folder = self._running = f"{self._folder}/run-{uuid.uuid4().hex[:12]}"
        try:
            if self._is_interrupted:
                raise DeviceFailed("the run was ended")
            return self._waited(folder, command, timeout_s)
        except BaseException:
            with suppress(DeviceFailed):
                self._ask("stop", folder)
            raise

    def pull(self, source: str, target: Path) -> None:
        """Fetch one file."""
        said = self._ask("get", source)
        content = base64.b64decode(said["base64"])
        if hashlib.sha256(content).hexdigest() != said["sha256"]:
            raise DeviceFailed(f"{source} of {self._link.host} arrived damaged", "try again")
        target.write_bytes(content)

    def answer(self, job: Measuring | OutputsJob, reply: Path, *, timeout_s: float) -> None:
        """Do `job`, whose paths are of this machine, in a fresh process there, and write what it replies to `reply`."""
        if job.runtime not in runner.runtimes():
            raise Unsupported(f"{job.runtime} does not run on a board", f"there are {', '.join(runner.runtimes())}")
        with tempfile.TemporaryDirectory(prefix="evit-edge-") as scratch:
            given = order(job, Path(scratch))
            payload, inputs = given.artifact.payload, given.inputs
            places = {file: self._place(file) for file in (payload, inputs)}
            self._put_missing({there: file for file, there in places.items()})
            here = f"{self._folder}/job-{uuid.uuid4().hex[:12]}"
            question, replied, outputs = f"{here}/job.json", f"{here}/reply.json", f"{here}/outputs.npz"
            text = given.text(artifact=places[payload], inputs=places[inputs], outputs=outputs)
            self._send(text.encode(), question)
            finished = self.run([self.python, self._runner, "trial", question, replied], timeout_s=timeout_s)
            if finished.returncode != 0:
                raise _ended(job.runtime, finished)
            self.pull(replied, reply)
            if isinstance(job, OutputsJob) and '"failure"' not in reply.read_text():
                raw = Path(scratch, "outputs.npz")
                self.pull(outputs, raw)
                given.keep(raw, Path(job.outputs))

    def interrupt(self) -> None:
        """End what runs there, whichever thread waits for it, and run nothing more."""
        self._is_interrupted = True
        if self._running:
            self._ask("stop", self._running)

    def close(self) -> None:
        """End what runs there, and take away what was put there; done by itself when Python ends."""
        self._close()

    def _waited(self, folder: str, command: Sequence[str], timeout_s: float) -> Finished:
        give_up = time.monotonic() + BUSY_S
        while True:
            said = self._ask("run", folder, str(timeout_s), str(PATIENCE_S), *command)
            match said["state"]:
                case "busy" if time.monotonic() > give_up:
                    raise DeviceBusy(f"somebody else measures on {self._link.host}", "try again when that is over")
                case "running" if self._is_interrupted:
                    raise DeviceFailed("the run was ended")
                case "lost":
                    raise DeviceFailed(f"what watched over {command[0]} on {self._link.host} was killed", "try again")
                case "ended" if said["returncode"] is None:
                    raise DeviceFailed(
                        f"no answer within {timeout_s:g} s; the process was stopped", "try a smaller batch or effort"
                    )
                case "ended":
                    return Finished(returncode=said["returncode"], tail=said["tail"])

    def _place(self, source: Path) -> str:
        return f"{self._folder}/{sha256_of(source)[:16]}/{source.name}"

    def _put_missing(self, files: dict[str, Path]) -> None:
        known = self._ask("digests", *files)["sha256"]
        for (there, file), found in zip(files.items(), known, strict=True):
            if found != sha256_of(file):
                self._put(file, there)

    def _put(self, source: Path, there: str) -> None:
        self._send(source.read_bytes(), there)

    def _send(self, content: bytes, there: str) -> None:
        self._link.put(content, there, python=self.python)

    def _ask(self, *arguments: str) -> dict[str, Any]:
        return self._link.ask([self.python, self._runner, *arguments])


def _suitable(seen: dict[str, Any], host: str) -> str:
    version = tuple(int(part) for part in str(seen["version"]).split(".")[:2])
    if version < OLDEST_PYTHON:
        raise DeviceFailed(
            f"{host} has Python {seen['version']}, and 3.10 is the oldest that will do",
            "install a newer one there, and name it in devices.toml: see docs/devices.md",
        )
    return str(seen["python"])


def _ended(runtime: str, finished: Finished) -> DeviceFailed:
    hint = "the board may have run out of memory: try a smaller batch" if finished.returncode == -9 else ""
    return DeviceFailed(f"{runtime} {child.how_it_ended(finished.returncode, finished.tail)}", hint)


def _leave(link: Link, remove: Sequence[str]) -> None:
    try:
        with suppress(DeviceFailed):
            link.ask(remove, timeout_s=ANSWER_S)
    finally:
        link.close()
