"""What `evit-edge run` reads: models, artifacts and how to measure them, in TOML. A fault has its line and column."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..converters.artifact import Precision
from ..models.errors import EdgeError, FileProblem
from .plan import COOL_DOWN_S

Location = tuple[str | int, ...]
Names = Annotated[list[str], Field(min_length=1)]
Counts = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]

HEADER: Final = re.compile(r"\s*(\[\[?)\s*([\w.\-\s\"']+?)\s*\]\]?\s*(?:#.*)?$")
KEY: Final = re.compile(r"(\s*)([\w.\-\"']+)\s*=")


def _each_once(devices: list[str]) -> list[str]:
    twice = next((address for address in devices if devices.count(address) > 1), None)
    if twice:
        raise ValueError(f"{twice} stands there twice")
    return devices


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelTable(_Table):
    """`[[model]]`: it is converted to every one of `targets` in every one of `precisions`, the target's own if none.

    The rest is what `evit-edge convert` calls by these names; `options` are a target's own.
    """

    name: str
    targets: Names
    precisions: Annotated[list[Precision], Field(min_length=1)] | None = None
    weights: str | None = None
    img_size: Annotated[int, Field(ge=1)] | None = None
    num_classes: Annotated[int, Field(ge=1)] | None = None
    batch: Annotated[int, Field(ge=1)] | Literal["dynamic"] = 1
    parity_images: Annotated[int, Field(ge=1)] = 32
    calibrate: str | None = None
    calibration_images: Annotated[int, Field(ge=1)] = 128
    calibration_method: str = "minmax"
    options: dict[str, Any] = {}


class ArtifactTable(_Table):
    """`[[artifact]]`: a folder that `convert` wrote."""

    path: str


class RunFile(_Table):
    """The whole file: what is measured is every artifact in every runtime, thread count and batch, on every device.

    `runtimes` null is each target's own; `sustained_s` adds so many seconds of load for each row. `at_once` is how many
    devices measure at the same time, null for all; `cool_down_s` and `strict_placement` are those of a `plan.Plan`.
    """

    effort: Literal["quick", "default", "rigorous"] = "default"
    seed: Annotated[int, Field(ge=0)] = 0
    devices: Annotated[Names, AfterValidator(_each_once)] = ["local"]
    runtimes: Names | None = None
    threads: Counts = [1]
    batches: Counts = [1]
    energy: bool = False
    sustained_s: Annotated[float, Field(gt=0)] | None = None
    timeout_s: Annotated[float, Field(gt=0)] = 900.0
    at_once: Annotated[int, Field(ge=1)] | None = None
    cool_down_s: Annotated[float, Field(ge=0)] = COOL_DOWN_S
    strict_placement: bool = False
    model: list[ModelTable] = []
    artifact: list[ArtifactTable] = []

    @model_validator(mode="after")
    def _something(self) -> RunFile:
        if not (self.model or self.artifact):
            raise ValueError("nothing to measure: add [[model]] or [[artifact]]")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A run file that was read: what it says, from where, and its text."""

    path: Path
    text: str
    says: RunFile

    def beside(self, path: str) -> Path:
        """A path of the file, which is relative to the file's own folder."""
        return self.path.parent / path

    @contextmanager
    def at(self, *location: str | int) -> Iterator[None]:
        """An error inside is that of the value at `location`, and says where it stands."""
        try:
            yield
        except EdgeError as error:
            raise type(error)(f"{_where(self.path, self.text, location)}: {error.message}", error.hint) from error


def read(path: Path) -> Read:
    """The run file at `path`; raises `FileProblem` with the line and column of what is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise FileProblem(f"{path} cannot be read: {reason}", "see docs/run.md for an example") from error
    try:
        says = RunFile.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        # Its message ends with the line and the column.
        raise FileProblem(f"{path}: {error}", "see docs/run.md for an example") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        named = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise FileProblem(
            f"{_where(path, text, first['loc'])}: {f'{named}: ' if named else ''}{said}", "see docs/run.md"
        ) from error
    return Read(path=path, text=text, says=says)


def _where(path: Path, text: str, location: Sequence[str | int]) -> str:
    line, column = position(text, location)
    return f"{path}, line {line}, column {column}"


def position(text: str, location: Sequence[str | int]) -> tuple[int, int]:
    """Line and column, from 1, of the key at `location`, or of the nearest table around it where there is no such key.

    A place in a list is that of the list's key.
    """
    found, depth = (1, 1), 0
    for line, column, path in _keys(text):
        length = len(path)
        if length > depth and path == tuple(location[:length]):
            found, depth = (line, column), length
    return found


def _keys(text: str) -> Iterator[tuple[int, int, Location]]:
    """Every header and key with its line, column and path; a table in a list has its number in the path."""
    table: Location = ()
    seen: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if header := HEADER.match(line):
            name = header[2].strip("\"'")
            table = (name,)
            if header[1] == "[[":
                table = (name, seen.setdefault(name, 0))
                seen[name] += 1
            else:
                table = tuple(part.strip().strip("\"'") for part in name.split("."))
                # [model.options] belongs to the last [[model]].
                if table[0] in seen:
                    table = (table[0], seen[str(table[0])] - 1, *table[1:])
            yield number, line.index("[") + 1, table
        elif key := KEY.match(line):
            yield number, len(key[1]) + 1, (*table, *(part.strip("\"'") for part in key[2].split(".")))
