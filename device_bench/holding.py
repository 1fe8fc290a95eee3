"""A device for one run alone, on this machine: two that measure at once would both be wrong."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from ..models.download import cache_folder
from ..models.errors import DeviceBusy, FileProblem

FOLDER: Final = "locks"
# A rigorous run of many rows takes that long.
PATIENCE_S: Final = 3600.0
PAUSE_S: Final = 0.2


@contextmanager
def held(
    address: str,
    *,
    patience_s: float = PATIENCE_S,
    on_wait: Callable[[], None] = lambda: None,
    require_wanted: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """The device `address`, once no other run here has it, in whatever process or thread.

    If it has to wait, `on_wait` is called once, and `require_wanted` over and over, which may end that by an error.
    Raises `DeviceBusy` after `patience_s` seconds, and `FileProblem` where there can be no lock.
    """
    # A file that is there for good: one that was taken away could be locked by two.
    path = cache_folder() / FOLDER / hashlib.sha256(address.encode()).hexdigest()[:16]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise FileProblem(f"{path} cannot be written: {error.strerror or error}", "set XDG_CACHE_HOME") from error
    try:
        give_up = time.monotonic() + patience_s
        while not _is_locked(lock):
            require_wanted()
            if time.monotonic() >= give_up:
                raise DeviceBusy(f"another run has {address}", "wait for its end, or end it")
            on_wait()
            on_wait = _nothing
            time.sleep(PAUSE_S)
        yield
    finally:
        os.close(lock)


def _is_locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _nothing() -> None:
    pass
