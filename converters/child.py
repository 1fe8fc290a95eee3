"""Work that may crash, hang or print runs in a child process: `call` on this side, `serve` on the other.

The job and the answer are JSON files in a folder of their own. The child is the leader of its process group
and dies with the whole group at the deadline, at Ctrl-C, and, if it calls `die_with_parent`, when this process goes
away.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

from ..models.errors import EdgeError, error_named

TAIL_BYTES: Final = 4096
POLL_S: Final = 0.2
# Where a child says what it is about; nowhere in any other process.
_STEPS: Final[ContextVar[Path | None]] = ContextVar("steps", default=None)


class ChildCrashed(EdgeError):
    """The child ended without an answer; `message` says how, `tail` holds the end of what it printed."""

    exit_code = 4

    def __init__(self, message: str, hint: str = "", tail: str = "") -> None:
        super().__init__(message, hint)
        self.tail = tail


def call(
    module: str, job: dict[str, Any], *, timeout_s: float, on_step: Callable[[str], None] = lambda step: None
) -> Any:
    """Run `python -m module` on `job` and return its answer (JSON); `on_step` gets what the child says of its progress.

    Raises the child's own `EdgeError`, or `ChildCrashed` if it died, was killed, or took over `timeout_s`.
    """
    with tempfile.TemporaryDirectory(prefix="evit-edge-") as folder:
        job_file, answer_file, steps = (Path(folder, name) for name in ("job.json", "answer.json", "step.txt"))
        job_file.write_text(json.dumps(job))
        # -P: a file of the user's current folder must not stand in for a package.
        command = [sys.executable, "-P", "-m", module, str(job_file), str(answer_file), str(steps)]
        code, tail = run(command, timeout_s=timeout_s, scratch=folder, watch=lambda: _pass_on(steps, on_step))
        if code is None:
            raise ChildCrashed(f"took longer than {timeout_s:g} s and was stopped", tail=tail)
        if code != 0 or not answer_file.exists():
            raise ChildCrashed(how_it_ended(code, tail), tail=tail)
        answer = json.loads(answer_file.read_text())
    if "error" in answer:
        raise error_named(answer["error"]["kind"])(answer["error"]["message"], answer["error"]["hint"])
    return answer["result"]


def serve(work: Callable[[dict[str, Any]], Any]) -> None:
    """The child's side of `call`: `work` gets the job; what it returns, or the `EdgeError` it raises, is the answer."""
    job_file, answer_file, steps = (Path(argument) for argument in sys.argv[1:4])
    _STEPS.set(steps)
    die_with_parent()
    try:
        answer: dict[str, Any] = {"result": work(json.loads(job_file.read_text()))}
    except EdgeError as error:
        answer = {"error": {"kind": type(error).__name__, "message": error.message, "hint": error.hint}}
    answer_file.write_text(json.dumps(answer))


def say(step: str) -> None:
    """Tell whoever called this child what it is about; nothing in a process that `serve` does not run in."""
    if steps := _STEPS.get():
        steps.write_text(step)


def _pass_on(steps: Path, on_step: Callable[[str], None]) -> None:
    # None was said yet, or the child is writing it.
    with contextlib.suppress(OSError):
        if step := steps.read_text():
            on_step(step)


def run(
    command: Sequence[str],
    *,
    timeout_s: float,
    scratch: str | None = None,
    watch: Callable[[], None] = lambda: None,
) -> tuple[int | None, str]:
    """The exit status (-N for signal N, None if the deadline passed) and the end of what was printed.

    Temporary files go into the folder `scratch`, if there is one: who is killed cannot take away his own. `watch` is
    called several times a second. No process of the command's group is left when this returns or is interrupted.
    Raises OSError if the command cannot be started.
    """
    # The interpreter's own folder first: converters call console scripts of the same environment by name.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    own = {"PATH": path} if scratch is None else {"PATH": path, "TMPDIR": scratch}
    with tempfile.TemporaryFile() as log:
        child: subprocess.Popen[bytes] | None = None
        code: int | None = None
        try:
            with _interruption_put_off():
                # The input stays open while this process lives: its end tells the child that this one is gone.
                child = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env={**os.environ, **own},
                )
            code = _wait(child, time.monotonic() + timeout_s, watch)
        finally:
            if child:
                _kill_group(child)
        log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
        return code, log.read().decode(errors="replace")


def _wait(child: subprocess.Popen[bytes], deadline: float, watch: Callable[[], None]) -> int | None:
    while (left := deadline - time.monotonic()) > 0:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(min(POLL_S, left))
        watch()
    return None


@contextlib.contextmanager
def _interruption_put_off() -> Iterator[None]:
    """Ctrl-C in here counts at the end: in the middle of a start it would leave a process that nobody knows."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pending: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pending.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pending:
        signal.raise_signal(signal.SIGINT)


def how_it_ended(code: int, tail: str) -> str:
    """`was killed by SIGABRT: …` or `ended with status 1: …`, with the last line that was printed."""
    said = next((f": {line.strip()}" for line in reversed(tail.splitlines()) if line.strip()), ", and printed nothing")
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}{said}"
    return f"ended with status {code}{said}"


def die_with_parent() -> None:
    """From now on, this process and its group die when whoever holds its standard input goes away."""

    def wait_and_die() -> None:
        # os.read takes no lock; a buffered reader's would abort the interpreter when it ends.
        os.read(0, 1)
        leads = os.getpgrp() == os.getpid()
        (os.killpg if leads else os.kill)(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait_and_die, daemon=True).start()


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    # A child that is gone may leave processes of its own behind.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    if child.stdin:
        child.stdin.close()
