"""The record of one cell: raw nanoseconds and where they come from. Everything else is computed from it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, Field, ValidationError

from ..converters.artifact import ParityRecord, Precision
from ..converters.golden import IMAGES
from ..models.errors import FileProblem
from .device import DeviceInfo
from .record import Count, Energy, Failure, Memory, Record, Sha256, Sustained, Timing

SCHEMA: Final = 2


class Trial(Record):
    """One fresh process: the round it belongs to, and its place in that round, both from 0.

    `seconds` is what all of it took, its start and its imports too.
    """

    round: Annotated[int, Field(ge=0)]
    order: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(ge=0)] | None = None
    timing: Timing


class Parity(Record):
    """The gate's verdict on this file: the worst cosine of inputs that count, the top-1 agreement (0…1) on images."""

    engine: str
    passed: bool
    cosine: float
    top1: float

    @classmethod
    def of(cls, record: ParityRecord) -> Parity:
        """The summary of a manifest's verdict."""
        return cls(
            engine=record.engine,
            passed=record.passed,
            cosine=min(row.cosine for row in record.rows if row.judged),
            top1=min(row.top1 for row in record.rows if row.inputs == IMAGES),
        )


class Result(Record):
    """One cell of a comparison, one line of `results.jsonl`.

    `target` and what belongs to the file (`artifact_digest`, `artifact_path`, `size_bytes`, `parity`) are null for the
    original model, and for an artifact that could not be made. `effort` is a name of `protocol.EFFORTS`; `seed` gave
    the order of the rounds; `command` is what was typed. Cells of one `session` took turns, and only they can be
    compared. A cell that failed keeps the trials it had. Schema 1 had no energy, no sustained load and less of a trial.
    """

    schema_: Literal[1, 2] = Field(default=SCHEMA, alias="schema")
    session: str
    started: AwareDatetime
    command: tuple[str, ...]
    seed: int
    effort: str
    device: DeviceInfo
    model: str
    weights: str
    model_digest: Sha256
    target: str | None
    precision: Precision
    artifact_digest: Sha256 | None
    artifact_path: str | None = None
    size_bytes: Annotated[int, Field(ge=0)] | None
    parity: Parity | None
    runtime: str
    threads: Count
    batch: Count
    trials: tuple[Trial, ...]
    memory: Memory | None
    energy: Energy | None = None
    sustained: Sustained | None = None
    failure: Failure | None

    @property
    def status(self) -> Literal["ok", "failed"]:
        """Whether the cell has all that was asked for."""
        return "failed" if self.failure else "ok"


def schema() -> dict[str, Any]:
    """The JSON Schema of one line."""
    return Result.model_json_schema(by_alias=True)


def require_writable(path: Path) -> None:
    """Raise the `FileProblem` that `append` would, before there is anything to lose; leaves no trace."""
    existed = path.exists()
    try:
        _refuse_foreign(path)
        path.open("ab").close()
    except OSError as error:
        raise _unwritable(path, error) from error
    if not existed:
        path.unlink()


def append(path: Path, result: Result) -> None:
    """Add one line, entirely or not at all; raises `FileProblem`, also for a file that is not of results."""
    line = result.model_dump_json(by_alias=True).encode() + b"\n"
    try:
        _refuse_foreign(path)
        with path.open("ab", buffering=0) as file:
            end = file.tell()
            try:
                written = file.write(line)
            except OSError:
                file.truncate(end)
                raise
            if written != len(line):
                file.truncate(end)
                raise OSError("no space left on the device")
            os.fsync(file.fileno())
    except OSError as error:
        raise _unwritable(path, error) from error


def read(path: Path) -> list[Result]:
    """Every result of the file, in order; raises `FileProblem` with the number of the first line that is none."""
    try:
        with path.open("rb") as file:
            return [_parse(line, path=path, number=number) for number, line in enumerate(file, start=1)]
    except OSError as error:
        raise FileProblem(
            f"{path} cannot be read: {error.strerror or error}", "make one with: evit-edge bench ARTIFACT"
        ) from error


def _unwritable(path: Path, error: OSError) -> FileProblem:
    return FileProblem(f"{path} cannot be written: {error.strerror or error}", "name another file")


def _parse(line: bytes, *, path: Path, number: int) -> Result:
    where = f"{path}, line {number}"
    if not line.endswith(b"\n"):
        raise FileProblem(f"{where} is cut off", "the run that wrote it was stopped: delete the line")
    try:
        return Result.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise FileProblem(f"{where} is not a result: {field or 'the line'}: {first['msg']}") from error


def _refuse_foreign(path: Path) -> None:
    # Only the first line and the end: a long file must not make each further result slower to add.
    if not path.exists():
        return
    with path.open("rb") as file:
        first = file.readline()
        if not first:
            return
        _parse(first, path=path, number=1)
        file.seek(-1, os.SEEK_END)
        if file.read() != b"\n":
            raise FileProblem(f"{path}: its last line is cut off", "delete that line, or name another file")
