"""`evit-edge report`."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Json

if TYPE_CHECKING:
    from ..device_bench.report.accuracy_file import Accuracies
    from ..device_bench.report.summary import Row
    from ..device_bench.result import Result


class Format(StrEnum):
    """What a report can be."""

    TERMINAL = "terminal"
    MARKDOWN = "markdown"
    CSV = "csv"
    JSON = "json"
    LATEX = "latex"
    HTML = "html"


def report(
    results: Annotated[list[Path], typer.Argument(metavar="RESULTS…", help="Files that `bench` wrote.")],
    format: Annotated[Format, typer.Option(help="What to print.")] = Format.TERMINAL,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it there; for all but the terminal.")] = None,
    accuracy: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="EVAL.json", help="What `eval --json` printed: top-1 beside the latency of the same file."
        ),
    ] = None,
    json: Json = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="On a screen, also all other figures, and why a row is doubted.")
    ] = False,
) -> None:
    """The comparison of results measured earlier, as a table, or as a page with pictures."""
    from ..device_bench import result
    from ..device_bench.report import summary

    wanted = Format.JSON if json else format
    if out is not None and wanted is Format.TERMINAL:
        raise typer.BadParameter("a terminal's table is not written: choose another --format", param_hint="--out")
    found = [one for path in results for one in result.read(path)]
    rows = summary.rows(found, accuracies=_accuracies(accuracy or [], found))
    if wanted is Format.TERMINAL:
        _show(found, rows, verbose=verbose)
    else:
        _hand_over(_text(wanted, found, rows), out)


def _accuracies(files: Sequence[Path], results: Sequence[Result]) -> list[Accuracies]:
    from ..device_bench.report import accuracy_file
    from . import show

    read = [accuracy_file.read(path) for path in files]
    for path, accuracies in zip(files, read, strict=True):
        if not any(accuracies.of(result) for result in results):
            show.note(f"{path} has no accuracy of any row here: neither file nor runtime is the same")
    return read


def _show(results: Sequence[Result], rows: Sequence[Row], *, verbose: bool) -> None:
    from ..device_bench.report import table
    from . import show

    show.table(*table.narrow(rows), footer=table.legend(results))
    for row in rows if verbose else ():
        show.line(f"\n{table.details(row)}")


def _text(wanted: Format, results: Sequence[Result], rows: Sequence[Row]) -> str:
    from ..device_bench.report import latex, page, table

    match wanted:
        case Format.MARKDOWN:
            return table.markdown(rows)
        case Format.CSV:
            return table.csv(rows)
        case Format.LATEX:
            return latex.latex(rows)
        case Format.HTML:
            return page.render(results, rows)
        case _:
            return table.json(rows)


def _hand_over(text: str, out: Path | None) -> None:
    from ..device_bench.report import text_file

    if out is None:
        print(text, end="")
    else:
        text_file.write(text, out)
