"""`evit-edge report`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .options import Json


class Format(StrEnum):
    """What a report can be."""

    TERMINAL = "terminal"
    MARKDOWN = "markdown"
    CSV = "csv"
    JSON = "json"


def report(
    results: Annotated[list[Path], typer.Argument(metavar="RESULTS…", help="Files that `bench` wrote.")],
    format: Annotated[Format, typer.Option(help="What to print.")] = Format.TERMINAL,
    json: Json = False,
) -> None:
    """The comparison table of results measured earlier."""
    from ..device_bench import result, table
    from . import show

    found = [one for path in results for one in result.read(path)]
    match Format.JSON if json else format:
        case Format.MARKDOWN:
            text = table.markdown(found)
        case Format.CSV:
            text = table.csv(found)
        case Format.JSON:
            text = table.json(found)
        case Format.TERMINAL:
            show.table(*table.narrow(found), footer=table.legend(found))
            return
    print(text, end="")
