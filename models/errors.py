"""Every error a user can cause, with the exit code that the command line ends with.

    EdgeError
    ├── UnknownName          2   a model, target, runtime or precision that does not exist
    ├── Unsupported          2   it exists, but not in this combination
    ├── MissingDependency    3   a package is not installed
    ├── FileProblem          3   a file or folder cannot be read or written
    │   ├── ModelUnavailable 3   a model's weights are missing, damaged or not this model's
    │   └── BadArtifact      3   an artifact folder is incomplete or was changed
    ├── ConversionFailed     4   the converter failed, crashed or ran out of time
    ├── ParityFailed         5   the artifact does not compute what the model computes
    ├── PrecisionNotMet      6   the written file is not of the precision that was asked for
    ├── InvalidMeasurement   7   what was measured does not count
    ├── Regression           8   something became worse by more than was allowed
    └── DeviceFailed         9   a device or its transport failed
        ├── LinkLost         9   it went away, and did not come back
        ├── DeviceBusy       9   somebody else measures there
        └── UnreadableOutput 9   a tool on it did not print what it prints when all went well

Exit code 0 is success, 130 an interruption. Anything that is not an `EdgeError` is a
bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class EdgeError(Exception):
    """What went wrong in one line, and what to do about it in another."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __reduce__(self) -> tuple[type[EdgeError], tuple[str, str], dict[str, object]]:
        return type(self), (self.message, self.hint), self.__dict__


class UnknownName(EdgeError):
    """A name that nothing answers to; `among` builds it with the nearest known names as the hint."""

    exit_code = 2

    @classmethod
    def among(cls, noun: str, name: str, known: Iterable[str]) -> UnknownName:
        """The error for `name`, hinting at the closest of `known`, or at all of them."""
        names = sorted(known)
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(names)}"
        return cls(f"unknown {noun} {name!r}", hint)


class Unsupported(EdgeError):
    """A request that exists, but not in this combination."""

    exit_code = 2


class MissingDependency(EdgeError):
    """A package that this work needs is not installed."""

    exit_code = 3


class FileProblem(EdgeError):
    """A file or folder that cannot be read or written."""

    exit_code = 3


class ModelUnavailable(FileProblem):
    """The model's weights are missing, damaged or belong to another model."""


class BadArtifact(FileProblem):
    """An artifact folder that is incomplete, or was changed since it was written."""


class ConversionFailed(EdgeError):
    """The converter failed, crashed or ran out of time."""

    exit_code = 4


class ParityFailed(EdgeError):
    """The artifact does not compute what the model computes."""

    exit_code = 5


class PrecisionNotMet(EdgeError):
    """The written file is not of the precision that was asked for."""

    exit_code = 6


class InvalidMeasurement(EdgeError):
    """A measurement that does not count."""

    exit_code = 7


class Regression(EdgeError):
    """Something became worse by more than was allowed."""

    exit_code = 8


class DeviceFailed(EdgeError):
    """A device, or the way to it, failed."""

    exit_code = 9


class LinkLost(DeviceFailed):
    """The device went away in the middle, and did not come back in time: what it was doing says nothing of a model."""


class DeviceBusy(DeviceFailed):
    """Somebody else measures on the device: two at once would both be wrong."""


class UnreadableOutput(DeviceFailed):
    """What a tool printed is not what it prints when all went well; `text` is all of it."""

    def __init__(self, message: str, hint: str = "", *, text: str = "") -> None:
        super().__init__(message, hint)
        self.text = text


def error_named(name: str) -> type[EdgeError]:
    """The class of the tree called `name`, `EdgeError` where there is none: for errors that crossed a process."""
    pending: list[type[EdgeError]] = [EdgeError]
    while pending:
        kind = pending.pop()
        if kind.__name__ == name:
            return kind
        pending.extend(kind.__subclasses__())
    return EdgeError
