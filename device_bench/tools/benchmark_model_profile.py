"""The profile by operator that `benchmark_model --enable_op_profiling=true` prints behind its summary."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile
from typing import Final

from ..record import OperatorTime
from .printed import COUNT, NUMBER, Printed, nanoseconds

HEADING: Final = "Operator-wise Profiling Info for Regular Benchmark Runs:"
OBSERVED: Final = re.compile(rf"({COUNT}) nodes observed", re.ASCII)
COLUMNS: Final = ("[node type]", "[first]", "[avg ms]", "[%]", "[cdf%]", "[mem KB]", "[times called]", "[Name]")
OLDER_COLUMNS: Final = ("[node type]", "[start]", *COLUMNS[1:])


def operators(printed: Printed) -> tuple[OperatorTime, ...]:
    """The runs' operators in their order, with mean times; raises where not all that were observed are listed."""
    lines = iter(printed.lines)
    if not any(each.endswith(HEADING) for each in lines):
        raise printed.fault("there is no profile: was it run with --enable_op_profiling=true?")
    found = _table(printed, lines, title="Run Order")
    slowest = _table(printed, lines, title="Top by Computation Time")
    observed = next((int(counted[1]) for each in lines if (counted := OBSERVED.fullmatch(each))), None)
    if observed != len(found) or not found:
        raise printed.fault(f"the profile lists {len(found)} operators, and says that it saw {observed or 'none'}")
    if not all(each in found for each in slowest):
        raise printed.fault("the two tables of the profile contradict each other")
    return tuple(found)


def _table(printed: Printed, lines: Iterator[str], *, title: str) -> list[OperatorTime]:
    """The rows under the title, which `lines` has still before it, up to an empty line."""
    if not any(each.strip("=") == f" {title} " for each in lines):
        raise printed.fault(f"the profile has no table {title!r}")
    columns = _cells(next(lines, ""))
    if columns not in {COLUMNS, OLDER_COLUMNS}:
        raise printed.fault(f"the profile's columns are not known: {' '.join(columns)[:200]!r}")
    return [_operator(printed, row, columns=columns) for row in takewhile(str.strip, lines)]


def _cells(row: str) -> tuple[str, ...]:
    """Each cell follows a tab."""
    before, *cells = row.split("\t")
    return () if before else tuple(each.strip() for each in cells)


def _operator(printed: Printed, row: str, *, columns: tuple[str, ...]) -> OperatorTime:
    cells = _cells(row)
    told = dict(zip(columns, cells, strict=False))
    whole = len(cells) == len(columns) and all(cells)
    if not whole or not re.fullmatch(NUMBER, told["[avg ms]"]) or not re.fullmatch(COUNT, told["[times called]"]):
        raise printed.fault(f"cannot read the profile's line {row[:120]!r}")
    ns = nanoseconds(told["[avg ms]"], "ms") * int(told["[times called]"])
    return OperatorTime(name=told["[Name]"], kind=told["[node type]"], ns=ns)
