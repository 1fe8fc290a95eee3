"""What the pictures of a comparison have in common: what a row is called, the colours, the axis of latency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from .drawing import FIFTH, FIRST, FOURTH, SECOND, SIXTH, TEXT, THIRD
from .summary import Row

WIDTH: Final = 4.6
COLOURS: Final = (FIRST, SECOND, THIRD, FOURTH, FIFTH, SIXTH)
MARKERS: Final = ("o", "s", "^", "D")
WIDE: Final = 8.0
FILE: Final = ("model", "weights", "target", "precision")
PARTS: Final = (*FILE, "runtime", "threads", "batch")

Numbered = tuple[int, Row]
"""A row and its number in the table, from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A picture as SVG, with what is said of it."""

    title: str
    caption: str
    svg: str


def names(rows: Sequence[Row], *, parts: Sequence[str] = PARTS) -> list[str]:
    """Each row by those `parts` that not all of them share."""
    apart = [part for part in parts if len({getattr(row, part) for row in rows}) > 1]
    return [" ".join(_part(row, part) for part in apart) for row in rows]


def left_out(count: int, most: int) -> str:
    """What a caption adds where not all of `count` are drawn; empty where they are."""
    return f" Only the first {most} of {count} are drawn." if count > most else ""


def milliseconds(axes: Any, rows: Sequence[Row]) -> None:
    """The axis of latency: logarithmic where the slowest takes far longer than the fastest."""
    medians = [row.latency_ms for row in rows if row.latency_ms]
    axes.set_xlabel("latency, ms [95 %]")
    if medians and max(medians) > WIDE * min(medians):
        axes.set_xscale("log")
        _plain_numbers(axes.xaxis)
    else:
        axes.set_xlim(left=0)


def legend(axes: Any) -> None:
    """Above the axes, where no line can be below it."""
    axes.legend(frameon=False, fontsize=7, labelcolor=TEXT, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))


def _plain_numbers(axis: Any) -> None:
    """1, 2, 5, 10 … on a logarithmic axis: there may be no power of ten on it, and exponents are hard to read."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _part(row: Row, part: str) -> str:
    value = getattr(row, part)
    return f"{value} thr" if part == "threads" else f"batch {value}" if part == "batch" else str(value)
