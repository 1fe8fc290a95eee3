"""A process on a board that outlives the connection which started it: kept by a supervisor until its deadline."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

TAIL_BYTES: Final = 4096
POLL_S: Final = 0.1
STOP_S: Final = 10.0
ABANDONED_S: Final = 86_400.0
LOCK: Final = "lock"
# Beside the sessions: whoever holds it is the only one who measures on this machine.
BUSY: Final = "busy"
LEADER: Final = "supervisor"
ENDED: Final = "ended.json"


def run(folder: Path, command: list[str], *, deadline_s: float, patience_s: float) -> dict[str, Any]:
    """Start `command`, unless `folder` says that it was, and wait for its end, at most `patience_s`.

    `state` is `ended`, with `returncode` (null: stopped at the deadline) and the `tail` of what it printed; `running`;
    `lost`, where nobody is left to say; or `busy`, where nothing was started because another session's command runs.
    What is in the folder stays.
    """
    if not folder.exists():
        alone = _alone(folder.parent.parent, patience_s=patience_s)
        if alone is None:
            return {"state": "busy"}
        lock = _claimed(folder)
        if lock is None:
            os.close(alone)
        else:
            _launch(folder, command, deadline_s, locks=(lock, alone))
    end = time.monotonic() + patience_s
    while True:
        # The order counts: what ended in between has said so.
        gone = not _held(folder)
        with suppress(FileNotFoundError):
            return {"state": "ended", **json.loads((folder / ENDED).read_bytes())}
        if gone:
            return {"state": "lost"}
        if time.monotonic() > end:
            return {"state": "running"}
        time.sleep(POLL_S)


def stop(folder: Path) -> None:
    """End what was started in `folder`, with every process of its group, and come back when it is gone."""
    end = time.monotonic() + STOP_S
    while _held(folder) and time.monotonic() < end:
        with suppress(FileNotFoundError, ValueError, ProcessLookupError):
            os.kill(int((folder / LEADER).read_bytes()), signal.SIGTERM)
        time.sleep(POLL_S / 2)


def remove(folder: Path) -> None:
    """End what runs below `folder`, take it away, and ours above it if nothing else is there."""
    for lock in folder.glob(f"*/{LOCK}"):
        stop(lock.parent)
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)
    with suppress(OSError):
        if [each.name for each in folder.parent.iterdir()] == [BUSY] and (alone := _alone(folder.parent)) is not None:
            (folder.parent / BUSY).unlink()
            os.close(alone)
        folder.parent.rmdir()


def sweep(folder: Path) -> None:
    """Take away what sessions beside `folder` left that were cut off more than a day ago."""
    for other in folder.parent.iterdir():
        idle = not any(_held(lock.parent) for lock in other.glob(f"*/{LOCK}"))
        if other != folder and idle and other.stat().st_mtime < time.time() - ABANDONED_S:
            shutil.rmtree(other, ignore_errors=True)


def _alone(ours: Path, *, patience_s: float = 0.0) -> int | None:
    """The lock of this machine, or None if another command runs for so long; released when it is closed everywhere.

    A command that has just ended may have it still.
    """
    end = time.monotonic() + patience_s
    while True:
        lock = os.open(ours / BUSY, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The last session may have taken the file away in between: then it locks nobody out.
            if os.stat(ours / BUSY).st_ino == os.fstat(lock).st_ino:  # noqa: PTH116
                return lock
        except BlockingIOError:
            if time.monotonic() >= end:
                os.close(lock)
                return None
            time.sleep(POLL_S)
        except FileNotFoundError:
            pass
        os.close(lock)


def _claimed(folder: Path) -> int | None:
    """The lock of `folder`, which is held from the moment that the folder is there; None if another was faster."""
    new = folder.with_name(f"{folder.name}.{os.getpid()}")
    new.mkdir()
    lock = os.open(new / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        new.rename(folder)
    except OSError:
        os.close(lock)
        shutil.rmtree(new)
        return None
    return lock


def _launch(folder: Path, command: list[str], deadline_s: float, *, locks: tuple[int, ...]) -> None:
    sys.stdout.flush()
    if first := os.fork():
        os.waitpid(first, 0)
        # A lock is released when the last process that has it open is gone.
        for lock in locks:
            os.close(lock)
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    try:
        _supervise(folder, command, deadline_s)
    finally:
        os._exit(0)


def _supervise(folder: Path, command: list[str], deadline_s: float) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    signal.signal(signal.SIGTERM, _told_to_end)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    (folder / LEADER).write_text(str(os.getpid()))
    log = folder / "log"
    environment = {**os.environ, "TMPDIR": str(folder), "ORT_DISABLE_TELEMETRY": "1"}
    child = None
    returncode: int | None = None
    try:
        with log.open("wb") as file:
            # The input stays open while this process lives: its end tells the child that this one is gone.
            child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=file, stderr=file, start_new_session=True, env=environment
            )
        with suppress(subprocess.TimeoutExpired):
            returncode = child.wait(deadline_s)
    except OSError as error:
        returncode = 127
        log.write_text(f"{command[0]} does not start: {error.strerror or error}")
    finally:
        if child:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    part = folder / f"{ENDED}.part"
    part.write_text(json.dumps({"returncode": returncode, "tail": _tail(log)}))
    part.rename(folder / ENDED)


def _told_to_end(number: int, frame: object) -> None:
    # Once: told again, it would leave in the middle of what ends the child.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit()


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
        return file.read().decode(errors="replace")


def _held(folder: Path) -> bool:
    try:
        lock = os.open(folder / LOCK, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
