"""What a person sees: tables on stdout, progress and errors on stderr. Decides nothing."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import TimeElapsedColumn as Elapsed
from rich.table import Table

from ..models.errors import EdgeError

if TYPE_CHECKING:
    from pydantic import BaseModel

_stderr = Console(stderr=True)


def json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json_module.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def plain(record: BaseModel) -> Any:
    """A record as it stands on disk: the names of its schema, and infinities as strings."""
    return json_module.loads(record.model_dump_json(by_alias=True))


def line(text: str) -> None:
    """One line on stdout."""
    print(text)


def note(text: str) -> None:
    """One line on stderr."""
    _stderr.print(escape(text), soft_wrap=True, highlight=False)


def error(problem: EdgeError, *, verbose: bool = False) -> None:
    """One line on stderr, the hint behind it; with `verbose` what the failing tool had printed before it."""
    _stderr.print(f"[bold red]error:[/] {escape(str(problem))}", soft_wrap=True, highlight=False)
    tail = getattr(problem.__cause__, "tail", "")
    if verbose and tail:
        print(tail, file=sys.stderr)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, footer: str = "") -> None:
    """A table on stdout; columns whose cells are all numbers or empty stand to the right."""
    drawn = Table(title=title or None, title_justify="left", title_style="", box=SIMPLE_HEAD, pad_edge=False, padding=0)
    for index, column in enumerate(columns):
        numeric = all(_numeric(row[index]) for row in rows)
        drawn.add_column(escape(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(escape(cell) for cell in row))
    # A pipe has no width: nothing is folded or cut there.
    console = Console() if sys.stdout.isatty() else Console(width=250)
    console.print(drawn)
    if footer:
        console.print(escape(footer), soft_wrap=True, highlight=False)


@contextmanager
def steps(quiet: bool) -> Iterator[Callable[[str], None]]:
    """A spinner on stderr with the step that is under way and the time since the first."""
    with _progress(SpinnerColumn(), TextColumn("{task.description}"), Elapsed(), quiet=quiet) as progress:
        task = progress.add_task("starting", total=None)
        yield lambda step: progress.update(task, description=escape(step))


@contextmanager
def counting(quiet: bool, total: int) -> Iterator[Callable[[str], None]]:
    """A bar on stderr that advances by one at each call, naming what comes next; it grows if there is more to do."""
    with counting_each(quiet, [("", total)]) as advance:
        yield partial(advance, 0)


@contextmanager
def counting_each(quiet: bool, totals: Sequence[tuple[str, int]]) -> Iterator[Callable[[int, str], None]]:
    """A bar on stderr for each of `totals`, of which there are names if there are several.

    A call advances one of them, by its number, and names what comes next there; it grows if there is more to do.
    """
    named = [TextColumn("{task.fields[name]}")] if len(totals) > 1 else []
    parts = (
        *named,
        BarColumn(),
        MofNCompleteColumn(),
        Elapsed(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with _progress(*parts, quiet=quiet) as progress:
        tasks = [progress.add_task("", total=total, name=escape(name)) for name, total in totals]

        def advance(number: int, what: str) -> None:
            task = progress.tasks[number]
            more = max(task.completed + 1, task.total or 0)
            progress.update(tasks[number], description=escape(what), advance=1, total=more)

        yield advance


@contextmanager
def downloading(quiet: bool) -> Iterator[Callable[[int, int | None], None]]:
    """A download bar on stderr that appears with the first bytes."""
    with _progress(TextColumn("downloading"), BarColumn(), DownloadColumn(), quiet=quiet) as progress:
        tasks: list[Any] = []

        def update(done: int, total: int | None) -> None:
            if not tasks:
                tasks.append(progress.add_task("", total=total))
            progress.update(tasks[0], completed=done, total=total)

        yield update


def _progress(*columns: Any, quiet: bool) -> Progress:
    return Progress(*columns, console=_stderr, transient=True, disable=quiet or not _stderr.is_terminal)


def _numeric(cell: str) -> bool:
    return not cell.strip("—-") or cell.lstrip("+-")[0].isdigit()
