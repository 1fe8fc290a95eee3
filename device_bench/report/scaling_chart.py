"""How throughput grows with threads, or with the batch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any, Final

from .drawing import MUTED, drawn
from .figure import COLOURS, MARKERS, PARTS, WIDTH, Figure, Numbered, left_out, legend, names
from .summary import Row

MOST_LINES: Final = 12


def with_threads(rows: Sequence[Numbered], *, where: str) -> Figure | None:
    """None where no file was run with two counts of threads."""
    return _figure(rows, along="threads", fixed="batch", title=f"Thread scaling{where}")


def with_batches(rows: Sequence[Numbered], *, where: str) -> Figure | None:
    """None where no file was run with two batches."""
    return _figure(rows, along="batch", fixed="threads", title=f"Batch scaling{where}")


def _figure(rows: Sequence[Numbered], *, along: str, fixed: str, title: str) -> Figure | None:
    lines = _lines([row for _, row in rows if row.ranked], along=along, fixed=fixed)
    if not lines:
        return None
    shown = lines[:MOST_LINES]
    with drawn(WIDTH, 3.6) as (axes, finished):
        labels = names([line[0] for line in shown], parts=[part for part in PARTS if part != along])
        for line, label, colour, marker in zip(shown, labels, cycle(COLOURS), cycle(MARKERS), strict=False):
            _draw(axes, line, along=along, label=label, colour=colour, marker=marker)
        places = sorted({getattr(row, along) for line in shown for row in line})
        axes.axhline(1, color=MUTED, linewidth=0.8)
        axes.set_xticks(places, [str(place) for place in places])
        axes.set_ylim(bottom=0)
        axes.set_xlabel(along)
        axes.set_ylabel("images/s over those of the line's first point")
        if any(labels):
            legend(axes)
    caption = "A bar is the 95 % interval of the point alone. Rows that are not ranked are left out."
    caption += left_out(len(lines), MOST_LINES)
    return Figure(title=title, caption=caption, svg=finished[0])


def _lines(rows: Sequence[Row], *, along: str, fixed: str) -> list[list[Row]]:
    """Rows of the same file, runtime and `fixed`, in the order of `along`, where it has two values."""
    lines: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        own = (row.model_digest, row.artifact_digest, row.precision, row.runtime, getattr(row, fixed))
        lines.setdefault(own, []).append(row)
    several = [line for line in lines.values() if len({getattr(row, along) for row in line}) > 1]
    return [sorted(line, key=lambda row: int(getattr(row, along))) for line in several]


def _draw(axes: Any, line: Sequence[Row], *, along: str, label: str, colour: str, marker: str) -> None:
    places = [getattr(row, along) for row in line]
    first = line[0].images_per_s or 1.0
    rates = [(row.images_per_s or 0.0) / first for row in line]
    axes.plot(places, rates, color=colour, marker=marker, markersize=4, linewidth=1.2, label=label)
    for place, row in zip(places, line, strict=True):
        if row.latency_low_ms and row.latency_high_ms:
            ends = [1e3 * row.batch / latency_ms / first for latency_ms in (row.latency_high_ms, row.latency_low_ms)]
            axes.plot([place, place], ends, color=colour, linewidth=3, alpha=0.5)
