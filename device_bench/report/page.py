"""A comparison as one page that needs nothing else: no network; sorted and filtered in place; light and dark."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import groupby
from typing import Any, Final

from ..result import Result
from . import chart, table
from .drawing import apart
from .figure import Figure
from .summary import Row
from .table import NOT_APPLICABLE, Column, number

TEMPLATE: Final = "page.html"
CHOICES: Final = ("target", "precision", "runtime", "validity")
MOST_MODELS: Final = 5
LATENCY: Final = "latency ms [95 %]"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """The room of the interval bars: `low` to `high` ms, logarithmic, so that equal lengths are equal ratios."""

    low: float
    high: float

    @classmethod
    def of(cls, rows: Sequence[Row]) -> _Scale:
        ends = [end for row in rows for end in (row.latency_low_ms, row.latency_ms, row.latency_high_ms) if end]
        return cls(low=min(ends, default=1.0), high=max(ends, default=1.0))

    def place(self, value: float) -> float:
        """From 0 to 100; the middle where all are the same."""
        if self.low == self.high:
            return 50.0
        return round(100 * math.log(value / self.low) / math.log(self.high / self.low), 2)

    def bar(self, row: Row) -> dict[str, float] | None:
        """Where the median is and, if there is an interval, its left end and width."""
        if not row.latency_ms:
            return None
        if not row.latency_low_ms or not row.latency_high_ms:
            return {"middle": self.place(row.latency_ms)}
        left, right = self.place(row.latency_low_ms), self.place(row.latency_high_ms)
        return {"middle": self.place(row.latency_ms), "left": left, "width": round(right - left, 2)}


def render(results: Sequence[Result], rows: Sequence[Row]) -> str:
    """The page's text; `rows` are those of `results`, and names from files are escaped."""
    from jinja2 import Environment

    template = Environment(autoescape=True).from_string(
        resources.files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8")
    )
    scale, same, origins = _Scale.of(rows), table.shared(rows), _origins(results)
    homes = {place: name for name, origin in enumerate(origins, start=1) for place in origin["places"]}
    page: str = template.render(
        title=_title(rows),
        summary=_said(rows),
        meaning=f"{table.MEANING}; {table.MORE_MEANING}",
        scale=f"{number(scale.low)} to {number(scale.high)} ms",
        same=", ".join(f"{heading} {text}" for heading, text in same.items()),
        columns=[{"heading": column.heading, "classes": _classes(column, same)} for column in table.COLUMNS],
        choices=[(name, sorted({getattr(row, name) for row in rows})) for name in CHOICES],
        lines=[_line(row, scale, same, origin=homes[place]) for place, row in enumerate(rows, start=1)],
        figures=_figures(chart.figures(rows)),
        undrawn=chart.sessions_left_out(rows),
        drawn=chart.MOST_SESSIONS,
        doubts=[(place, row) for place, row in enumerate(rows, start=1) if row.reasons],
        origins=origins,
    )
    return page


def _title(rows: Sequence[Row]) -> str:
    models = list(dict.fromkeys(row.model for row in rows))
    shown = ", ".join(models[:MOST_MODELS]) + (" …" if len(models) > MOST_MODELS else "")
    return f"Comparison: {shown}" if models else "Comparison"


def _said(rows: Sequence[Row]) -> str:
    """The page in a line: how much there is, and how much of it counts."""
    devices, sessions = ({getattr(row, name) for row in rows} for name in ("device", "session"))
    levels = Counter("failed" if row.status == "failed" else row.validity for row in rows)
    counted = ", ".join(f"{count} {level}" for level, count in sorted(levels.items()))
    parts = [_counted(len(rows), "row"), _counted(len(sessions), "session"), f"on {', '.join(sorted(devices))}"]
    return f"{', '.join(parts)}: {counted}." if rows else "No results."


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' if count != 1 else ''}"


def _line(row: Row, scale: _Scale, same: Container[str], *, origin: int) -> dict[str, Any]:
    return {
        "ranked": row.ranked,
        "origin": origin,
        "choices": [(name, getattr(row, name)) for name in CHOICES],
        "cells": [_cell(row, column, scale, same) for column in table.COLUMNS],
    }


def _cell(row: Row, column: Column, scale: _Scale, same: Container[str]) -> dict[str, Any]:
    text = column.text(row)
    classes = _classes(column, same)
    if column.heading == "validity":
        classes += f" {'failed' if row.status == 'failed' else row.validity}"
    return {
        "text": text,
        "value": column.value(row) if column.value else None if text == NOT_APPLICABLE else text,
        "classes": classes,
        "bar": scale.bar(row) if column.heading == LATENCY else None,
    }


def _classes(column: Column, same: Container[str]) -> str:
    """The column's kind, and `more` where it is shown on demand alone."""
    kind = "number" if column.value else "wide" if column.heading == "validity" else ""
    return f"{kind} more".strip() if column.level == "all" or column.heading in same else kind


def _figures(found: Sequence[Figure]) -> list[dict[str, Any]]:
    from markupsafe import Markup

    return [
        {"title": each.title, "caption": each.caption, "svg": Markup(apart(each.svg, f"f{place}"))}
        for place, each in enumerate(found)
    ]


def _origins(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Each session and command once, with the numbers of its rows from 1, and that of the session in the pictures."""
    sessions = list(dict.fromkeys(result.session for result in results))
    groups: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for place, result in enumerate(results, start=1):
        groups.setdefault((result.session, result.command), []).append(place)
    return [
        {
            "places": places,
            "heading": f"Session {sessions.index(session) + 1}: rows {_ranges(places)}",
            "facts": _facts(results[places[0] - 1]),
            "command": shlex.join(command),
        }
        for (session, command), places in groups.items()
    ]


def _facts(result: Result) -> list[tuple[str, str]]:
    """What is known of where and when, in words; what the machine did not tell is left out."""
    device = {name: value for name, value in result.device.model_dump().items() if value is not None}
    packages = device.pop("versions")
    return [
        ("started", f"{result.started:%Y-%m-%d %H:%M:%S %Z}"),
        ("effort", result.effort),
        ("seed of the order", str(result.seed)),
        ("session", result.session),
        *((name.replace("_", " "), _plain(value)) for name, value in device.items()),
        ("packages", _plain(packages)),
    ]


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(each)}" for name, each in sorted(value.items()))
    if isinstance(value, tuple | list):
        return ", ".join(map(_plain, value)) or NOT_APPLICABLE
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _ranges(places: Sequence[int]) -> str:
    """1, 2, 3, 5 as `1–3, 5`."""
    runs = [[place for _, place in run] for _, run in groupby(enumerate(places), key=lambda pair: pair[1] - pair[0])]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)
