"""ncnn's `benchncnn`: what it prints, all of it on stderr. Milliseconds with two decimals."""

from __future__ import annotations

import re
from typing import Final

from .outcome import Outcome
from .printed import COUNT, NUMBER, Printed, line, nanoseconds

LOOPS: Final = line("loop_count", rf"loop_count = (?P<value>{COUNT})")
MODEL: Final = line(
    r"\b(?:min|max|avg) =",
    rf"(?P<name> *\S.*?)  min = +(?P<min>{NUMBER})  max = +(?P<max>{NUMBER})  avg = +(?P<avg>{NUMBER})",
)
NAMES: Final = {"mean_ns": "avg", "min_ns": "min", "max_ns": "max"}
# Names are set to the right of 20 columns: a line with less before its figures has lost its beginning.
NAME_WIDTH: Final = 20


def parse(text: str) -> tuple[Outcome, ...]:
    """A record for each model in order; the warm-up (8 runs, 10 on a GPU) is not told. Raises `UnreadableOutput`."""
    printed = Printed.of(text, "benchncnn")
    inferences = int(printed.one(LOOPS, "loop_count")["value"])
    found = printed.all(MODEL)
    names = [each["name"].strip() for each in found]
    if not found or len(set(names)) < len(names):
        raise printed.fault("one line a model was expected" if found else "there is no line of a model")
    return tuple(_outcome(printed, each, inferences=inferences) for each in found)


def _outcome(printed: Printed, found: re.Match[str], *, inferences: int) -> Outcome:
    if len(found["name"]) < NAME_WIDTH:
        raise printed.fault(f"cannot read the line {found.string[:120]!r}")
    times = {ours: nanoseconds(found[name], "ms") for ours, name in NAMES.items()}
    return printed.outcome({"generation": "current", "model": found["name"].strip(), "inferences": inferences, **times})
