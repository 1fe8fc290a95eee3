"""Every picture of a comparison that has something to show: trade-offs, spread, scaling, size and memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from . import scaling_chart, trade_chart
from .drawing import FIRST, MUTED, SECOND, TEXT, drawn
from .figure import FILE, PARTS, WIDTH, Figure, Numbered, left_out, names
from .summary import Row

MOST_ROWS: Final = 40
MOST_SESSIONS: Final = 3
# Further off, and one wild process would squeeze all others into a line.
MOST_PERCENT: Final = 25.0


def figures(rows: Sequence[Row]) -> list[Figure]:
    """The pictures of each session, then those of the files; rows are called by their numbers from 1."""
    numbered = list(enumerate(rows, start=1))
    sessions = _sessions(numbered)[:MOST_SESSIONS]
    found: list[Figure | None] = []
    for own, where in sessions:
        found += [trade_chart.against_accuracy(own, where=where), trade_chart.against_size(own, where=where)]
        found += [scaling_chart.with_threads(own, where=where), scaling_chart.with_batches(own, where=where)]
    files: dict[str | None, Numbered] = {}
    for each in numbered:
        files.setdefault(each[1].artifact_digest, each)
    found.append(_bars([*files.values()], lambda row: row.size_mib, title="Size of the files", parts=FILE))
    # The tall ones last: pictures stand side by side.
    found += [_spread(own, where=where) for own, where in sessions]
    found.append(_bars(numbered, lambda row: row.memory_mib, title="Memory added to the peak", parts=PARTS))
    return [figure for figure in found if figure]


def _sessions(numbered: Sequence[Numbered]) -> list[tuple[list[Numbered], str]]:
    """The rows with a latency by session, and what a title adds to tell sessions apart."""
    found: dict[str, list[Numbered]] = {row.session: [] for _, row in numbered}
    for number, row in numbered:
        if row.latency_ms:
            found[row.session].append((number, row))
    named = [(own, f", session {place}" if len(found) > 1 else "") for place, own in enumerate(found.values(), start=1)]
    return [(own, where) for own, where in named if own]


def sessions_left_out(rows: Sequence[Row]) -> int:
    """How many sessions have no pictures of their own."""
    return max(0, len({row.session for row in rows if row.latency_ms}) - MOST_SESSIONS)


def _spread(rows: Sequence[Numbered], *, where: str) -> Figure | None:
    shown = rows[:MOST_ROWS]
    if max(row.processes for _, row in shown) < 2:
        return None
    with drawn(WIDTH, 0.8 + 0.24 * len(shown)) as (axes, finished):
        for place, (_, row) in enumerate(shown):
            _strip(axes, row, place)
        axes.axvline(0, color=TEXT, linewidth=0.6)
        _name_rows(axes, shown, PARTS)
        axes.set_xlabel("a process's median against the row's, %")
    caption = (
        "A dot is a process, the first on top; the bar is the 95 % interval of the row's median. What is further off "
        f"than {MOST_PERCENT:g} % is drawn at the edge. In the other colour: not ranked."
    )
    caption += left_out(len(rows), MOST_ROWS)
    return Figure(title=f"Spread between processes{where}", caption=caption, svg=finished[0])


def _strip(axes: Any, row: Row, place: int) -> None:
    middle = row.latency_ms or 1.0
    if row.latency_low_ms is not None and row.latency_high_ms is not None:
        ends = [_per_cent(bound, middle) for bound in (row.latency_low_ms, row.latency_high_ms)]
        axes.plot(ends, [place, place], color=MUTED, linewidth=6, alpha=0.5, solid_capstyle="butt")
    off = [_per_cent(each, middle) for each in row.process_medians_ms]
    # From above to below in the order of the rounds, so that a drift is seen as a slope.
    heights = [place + 0.6 * (number / max(1, len(off) - 1) - 0.5) for number in range(len(off))]
    axes.plot(off, heights, ".", color=FIRST if row.ranked else SECOND, markersize=4)


def _per_cent(value: float, middle: float) -> float:
    return min(max(100 * (value / middle - 1), -MOST_PERCENT), MOST_PERCENT)


def _bars(
    rows: Sequence[Numbered], measure: Callable[[Row], float | None], *, title: str, parts: Sequence[str]
) -> Figure | None:
    known = [each for each in rows if measure(each[1]) is not None]
    shown = known[:MOST_ROWS]
    if not shown:
        return None
    with drawn(WIDTH, 0.8 + 0.2 * len(shown)) as (axes, finished):
        values = [measure(row) or 0.0 for _, row in shown]
        axes.barh(range(len(shown)), values, color=FIRST, height=0.7)
        for place, value in enumerate(values):
            axes.annotate(f"{value:.2f}", (value, place), xytext=(3, 0), textcoords="offset points", va="center")
        axes.margins(x=0.12)
        _name_rows(axes, shown, parts)
        axes.set_xlabel("MiB")
    return Figure(title=title, caption=f"Less is better.{left_out(len(known), MOST_ROWS)}", svg=finished[0])


def _name_rows(axes: Any, rows: Sequence[Numbered], parts: Sequence[str]) -> None:
    found = zip(names([row for _, row in rows], parts=parts), rows, strict=True)
    axes.set_yticks(
        range(len(rows)), [f"{number}: {name}" if name else str(number) for name, (number, _) in found], fontsize=7
    )
    axes.set_ylim(len(rows) - 0.4, -0.6)
