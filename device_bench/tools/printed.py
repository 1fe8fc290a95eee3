"""The lines that a tool printed: a figure comes from a whole line that is there once, or not at all. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from pydantic import ValidationError

from ...models.errors import UnreadableOutput
from .outcome import Outcome, Tool

NUMBER: Final = r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?"
COUNT: Final = r"[0-9]{1,18}"
UNITS_NS: Final = {"us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A kind of line: one in which `mark` is found must be `whole`, or something came between or was lost."""

    mark: re.Pattern[str]
    whole: re.Pattern[str]


def line(mark: str, whole: str) -> Line:
    """By regular expressions; digits are ASCII."""
    return Line(mark=re.compile(mark, re.ASCII), whole=re.compile(whole, re.ASCII))


def nanoseconds(number: str, unit: str) -> float:
    """The figure that was printed, without the error of a product of floats."""
    return float(Decimal(number) * UNITS_NS[unit])


def mebibytes(number: str) -> int:
    """Bytes, where a tool says MB and means 1024² of them."""
    return round(Decimal(number) * 1024**2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """All that `tool` printed, by lines without their ends; lines may end as on Windows or an old Android."""

    tool: Tool
    text: str = field(repr=False)
    lines: tuple[str, ...] = field(repr=False)

    @classmethod
    def of(cls, text: str, tool: Tool) -> Printed:
        """Raises `UnreadableOutput` where the last line has no end: what is there of it may be half a number."""
        *lines, rest = text.split("\n")
        printed = cls(tool=tool, text=text, lines=tuple(each.rstrip("\r") for each in lines))
        if rest.strip():
            raise printed.fault("the text ends in the middle of a line")
        return printed

    def fault(self, why: str) -> UnreadableOutput:
        """The error with all of the text; the tool's own last complaint, if there is one, is its hint."""
        complaints = [each for each in self.lines if each.startswith(("ERROR: ", "FATAL: "))]
        hint = (
            f"it says: {complaints[-1]}" if complaints else "see whether it ran to its end, and that no log is mixed in"
        )
        return UnreadableOutput(f"{self.tool}: {why}", hint, text=self.text)

    def match(self, text: str, kind: Line) -> re.Match[str] | None:
        """What `kind` finds in a line, `None` if it is another kind; raises for half a line."""
        if not kind.mark.search(text):
            return None
        found = kind.whole.fullmatch(text)
        if not found:
            raise self.fault(f"cannot read the line {text[:120]!r}")
        return found

    def all(self, kind: Line) -> list[re.Match[str]]:
        """Every line of the kind, in order."""
        return [found for each in self.lines if (found := self.match(each, kind))]

    def maybe(self, kind: Line) -> re.Match[str] | None:
        """The line of the kind, `None` without one; raises for two: they would be two runs."""
        found = self.all(kind)
        if len(found) > 1:
            raise self.fault(f"{found[1].group()[:120]!r} is there {len(found)} times")
        return found[0] if found else None

    def one(self, kind: Line, name: str) -> re.Match[str]:
        """The line of the kind; raises without one, calling it `name`."""
        found = self.maybe(kind)
        if not found:
            raise self.fault(f"{name} is missing")
        return found

    def outcome(self, figures: Mapping[str, object]) -> Outcome:
        """The record; raises where the figures cannot be those of a measurement."""
        try:
            return Outcome.model_validate({"tool": self.tool, **figures})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise self.fault(f"{where}: {first['msg']}" if where else first["msg"]) from error
