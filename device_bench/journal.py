"""What a run has measured so far, a line a turn, so that it can be stopped at any point and taken up again."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO, Annotated, Literal

from pydantic import AwareDatetime, Field, ValidationError

from ..models.errors import FileProblem
from .device import DeviceInfo
from .record import Energy, Failure, Memory, Record, Sha256, Sustained, Timing
from .result import Parity
from .schedule import Pass, Taken, Turn
from .statistics import latency


class Header(Record):
    """The first line: which plan it belongs to, by the digest of what is measured, and where and when it began."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    plan_sha256: Sha256
    session: str
    started: AwareDatetime
    device: DeviceInfo


class Entry(Record):
    """A turn that was taken, with its answer or its failure, or neither where there was nothing to compare with.

    `seconds` is all that it took.
    """

    cell: Annotated[int, Field(ge=0)]
    kind: Pass
    round: Annotated[int, Field(ge=0)]
    order: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(ge=0)]
    timing: Timing | None = None
    memory: Memory | None = None
    energy: Energy | None = None
    sustained: Sustained | None = None
    parity: Parity | None = None
    failure: Failure | None = None

    @property
    def taken(self) -> Taken:
        """What the schedule needs to know of it."""
        turn = Turn(cell=self.cell, kind=self.kind, round=self.round, order=self.order)
        found = latency([self.timing.per_call_ns]) if self.timing else None
        return Taken(
            turn=turn,
            seconds=self.seconds,
            value=found.median_ns if found else None,
            failed=self.failure is not None,
        )


class Journal:
    """The turns of one plan on one device; without a file they are only in memory."""

    def __init__(self, header: Header, *, entries: list[Entry] | None = None, file: IO[bytes] | None = None) -> None:
        self.header = header
        self.entries = entries or []
        self._file = file

    def add(self, entry: Entry) -> None:
        """Keep a turn, on the disk when this returns; raises `FileProblem`, and then the file has no part of it."""
        if self._file:
            _append(self._file, entry)
        self.entries.append(entry)

    def close(self) -> None:
        """Give the file free for another run."""
        if self._file:
            self._file.close()


def opened(path: Path, header: Header) -> Journal:
    """The journal at `path`, begun with `header` if there is none; an end that was cut off is taken away.

    Raises `FileProblem` for a journal of another plan, one that is in use, and a damaged one.
    """
    try:
        file = path.open("a+b", buffering=0)
    except OSError as error:
        raise _unwritable(str(path), error) from error
    try:
        return _taken_up(file, path, header)
    except BaseException:
        file.close()
        raise


def _taken_up(file: IO[bytes], path: Path, header: Header) -> Journal:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FileProblem(f"{path} is in use by another run", "wait for it, or name another --out") from error
    file.seek(0)
    lines = file.read().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"\n")]
    file.truncate(sum(map(len, whole)))
    if not whole:
        _append(file, header)
        return Journal(header, file=file)
    try:
        found = Header.model_validate_json(whole[0])
        entries = [Entry.model_validate_json(line) for line in whole[1:]]
    except ValidationError as error:
        raise FileProblem(f"{path} is damaged", "delete it to measure all again") from error
    if found.plan_sha256 != header.plan_sha256:
        raise FileProblem(f"{path} is of another plan or other artifacts", "name another --out, or delete it")
    return Journal(found, entries=entries, file=file)


def _append(file: IO[bytes], record: Record) -> None:
    line = record.model_dump_json(by_alias=True).encode() + b"\n"
    end = file.seek(0, os.SEEK_END)
    try:
        if file.write(line) != len(line):
            raise OSError("no space left on the device")
        os.fsync(file.fileno())
    except OSError as error:
        file.truncate(end)
        raise _unwritable(file.name, error) from error


def _unwritable(path: str, error: OSError) -> FileProblem:
    return FileProblem(f"{path} cannot be written: {error.strerror or error}", "name another --out")
