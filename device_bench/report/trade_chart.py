"""Latency against what it is paid with, accuracy or size, and the Pareto front of the two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import cycle
from typing import Any, Final

from .drawing import MUTED, TEXT, drawn
from .figure import COLOURS, MARKERS, WIDTH, Figure, Numbered, legend, milliseconds
from .front import front, steps
from .summary import Row

# With more than that, only what is on the front can be read.
MOST_NUMBERED: Final = 40

Height = Callable[[Row], float]
Looks = dict[str, tuple[str, str]]


def against_accuracy(rows: Sequence[Numbered], *, where: str) -> Figure | None:
    """Top-1 with its interval; None below two rows that have it."""
    known = _of_one_batch([(number, row) for number, row in rows if row.top1 is not None])
    if len(known) < 2:
        return None
    looks = _looks(row for _, row in rows)
    with drawn(WIDTH, 3.6) as (axes, finished):
        for _, row in known:
            bounds = [100 * (row.top1_low or 0.0), 100 * (row.top1_high or 0.0)]
            axes.plot([row.latency_ms] * 2, bounds, color=MUTED, linewidth=0.8, zorder=1)
        kept = _points(axes, known, looks, height=lambda row: 100 * (row.top1 or 0.0), less=False)
        axes.set_ylabel("top-1, % [95 %]")
    caption = _caption(known, kept, better="up and to the left")
    return Figure(title=f"Latency against accuracy{where}", caption=caption, svg=finished[0])


def against_size(rows: Sequence[Numbered], *, where: str) -> Figure | None:
    """The size of the artifact; None where there are no two sizes."""
    known = _of_one_batch([(number, row) for number, row in rows if row.size_mib is not None])
    if len({row.size_mib for _, row in known}) < 2:
        return None
    looks = _looks(row for _, row in rows)
    with drawn(WIDTH, 3.6) as (axes, finished):
        kept = _points(axes, known, looks, height=lambda row: row.size_mib or 0.0, less=True)
        axes.set_ylabel("size, MiB")
        axes.set_ylim(bottom=0)
    caption = _caption(known, kept, better="down and to the left")
    return Figure(title=f"Latency against size{where}", caption=caption, svg=finished[0])


def _of_one_batch(rows: Sequence[Numbered]) -> Sequence[Numbered]:
    """The rows of the batch that most have, the smaller of two that as many have: others do not compare."""
    counts = Counter(row.batch for _, row in rows)
    batch = max(counts, key=lambda batch: (counts[batch], -batch), default=0)
    return [(number, row) for number, row in rows if row.batch == batch]


def _points(axes: Any, rows: Sequence[Numbered], looks: Looks, *, height: Height, less: bool) -> set[int]:
    """Draw a point a row with its interval and number, and the front of the medians; the places on the front."""
    shown = [row for _, row in rows]
    kept = front(shown, cost=lambda row: height(row) if less else -height(row))
    for place, (number, row) in enumerate(rows):
        x, y = row.latency_ms or 0.0, height(row)
        colour, marker = looks[_kind(row)] if row.ranked else (MUTED, "x")
        face = colour if place in kept else "none"
        axes.plot([row.latency_low_ms or x, row.latency_high_ms or x], [y, y], color=colour, linewidth=1.4)
        axes.plot([x], [y], marker, color=colour, markerfacecolor=face, markersize=5)
        if place in kept or len(rows) <= MOST_NUMBERED:
            axes.annotate(str(number), (x, y), xytext=(3, 3), textcoords="offset points", fontsize=7)
    stair = [shown[place] for place in steps(shown, cost=lambda row: height(row) if less else -height(row))]
    dotted = {"where": "post", "color": TEXT, "linewidth": 0.8, "linestyle": ":", "zorder": 0}
    axes.step([row.latency_ms for row in stair], [height(row) for row in stair], **dotted)
    milliseconds(axes, shown)
    for kind in dict.fromkeys(_kind(row) for row in shown if row.ranked):
        colour, marker = looks[kind]
        axes.plot([], [], marker, color=colour, markersize=5, label=kind)
    if any(row.ranked for row in shown):
        legend(axes)
    return kept


def _looks(rows: Iterable[Row]) -> Looks:
    """A colour and a marker of its own for each of up to 12 kinds, the same in every picture of a session."""
    kinds = dict.fromkeys(map(_kind, rows))
    return dict(zip(kinds, zip(cycle(COLOURS), cycle(MARKERS), strict=False), strict=False))


def _kind(row: Row) -> str:
    return f"{row.target} {row.precision}"


def _caption(rows: Sequence[Numbered], kept: set[int], *, better: str) -> str:
    parts = [f"Batch {rows[0][1].batch}; {better} is better; the numbers are the table's."]
    if kept:
        on_it = ", ".join(str(rows[place][0]) for place in sorted(kept))
        parts.append(
            f"Filled: on the Pareto front ({on_it}), because nothing as good is faster by its whole interval. "
            "Dotted: the front of the medians alone."
        )
    if any(not row.ranked for _, row in rows):
        parts.append("Crosses are not ranked.")
    return " ".join(parts)
