"""What every way to another machine has in common: whole answers or none, and asking again after a cut."""

from __future__ import annotations

import errno
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from ...models.download import sha256_of
from ...models.errors import DeviceFailed, LinkLost
from ..board.first import MARK

RETURN_S: Final = 60.0
PAUSE_S: Final = 0.5
ANSWER_S: Final = 120.0
# A megabyte a second is slower than any network or cable that boards are on.
BYTES_A_SECOND: Final = 1e6

Said = TypeVar("Said")


class LinkCut(DeviceFailed):
    """The connection ended before the answer was whole: whether the request was done is unknown."""


class Link(Protocol):
    """A way to the machine `host`, which carries one command at a time; all methods raise `DeviceFailed`."""

    host: str

    def ask(self, command: Sequence[str], *, timeout_s: float = ANSWER_S) -> dict[str, Any]:
        """Run `command` there, each word as it is, and again if the link is cut; the answer is its one marked line."""

    def put(self, content: bytes, there: str, *, python: str) -> None:
        """Make the file `there`, whole or not at all, checked by a digest that is computed there."""

    def close(self) -> None:
        """End the connection; what waits for it fails at once."""


def until_back(
    host: str,
    ask: Callable[[], Said],
    *,
    is_closed: Callable[[], bool] = lambda: False,
    call_again: Callable[[], None] = lambda: None,
) -> Said:
    """What `ask` gives, asked again after a `LinkCut`: it must bear being repeated.

    Raises `LinkLost` if the other side does not come back within a minute, and any other error that comes first.
    """
    cut_at: float | None = None
    while True:
        try:
            return ask()
        except DeviceFailed as error:
            if is_closed() or (cut_at is None and not isinstance(error, LinkCut)):
                raise
            cut_at = cut_at or time.monotonic()
            if time.monotonic() - cut_at > RETURN_S:
                raise LinkLost(
                    f"{error.message}; {host} did not come back within {RETURN_S:g} s", error.hint
                ) from error
        time.sleep(PAUSE_S)
        call_again()


def marked(printed: bytes) -> dict[str, Any] | None:
    """The last line with our mark; None if there is none, or not all of it. A login may print lines of its own."""
    lines = [line for line in printed.splitlines(keepends=True) if line.startswith(MARK.encode())]
    if not lines or not lines[-1].endswith(b"\n"):
        return None
    try:
        answer = json.loads(lines[-1].removeprefix(MARK.encode()))
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def not_done(host: str, what: str, number: int | None) -> DeviceFailed:
    """An operation there that failed with the error `number`."""
    if number in (errno.ENOSPC, errno.EDQUOT):
        return DeviceFailed(f"the disk of {host} is full", "make room there: df -h says where")
    return DeviceFailed(f"{host}: {what}", "see the folder ~/.cache/evit-edge there")


def files_in(folder: Path) -> dict[str, Path]:
    """All files below `folder`, by their names from there."""
    return {str(file.relative_to(folder)): file for file in sorted(folder.rglob("*")) if file.is_file()}


def digest(source: Path) -> str:
    """The SHA-256 of a file, or of the names and digests of all files in a folder."""
    if source.is_file():
        return sha256_of(source)
    parts = [(name, sha256_of(file)) for name, file in files_in(source).items()]
    return hashlib.sha256(repr(parts).encode()).hexdigest()
