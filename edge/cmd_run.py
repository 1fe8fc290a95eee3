"""`evit-edge run`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Json, Quiet, Verbose

if TYPE_CHECKING:
    from ..device_bench.matrix import Checked
    from ..device_bench.result import Result
    from ..models.errors import EdgeError


def run(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="What to convert and measure: see docs/run.md.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for artifacts and results; the file's name without .toml if not given.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Convert and measure a whole matrix; run it again after a stop, and it goes on where it was."""
    from ..device_bench import matrix, result, runfile, runfolder
    from . import outcome, show

    source = runfile.read(file)
    folder = out or Path(file.stem)
    lost: Sequence[EdgeError] = ()
    with runfolder.taken(folder, source.text):
        if (folder / runfolder.RESULTS).exists():
            show.note(f"{folder} is finished: nothing was measured again")
            runfolder.remove_journals(folder)
            results = result.read(folder / runfolder.RESULTS)
        else:
            results, lost = _measured(matrix.check(source), folder, quiet=quiet)
            if not lost:
                runfolder.finish(results, folder)
    code = outcome.tell(results, as_json=json, verbose=verbose)
    if lost:
        for error in lost:
            show.error(error)
        show.note("not finished: the same command goes on where it was")
        return lost[0].exit_code
    show.note(f"raw results: {folder / runfolder.RESULTS}")
    return code


def _measured(checked: Checked, folder: Path, *, quiet: bool) -> tuple[list[Result], list[EdgeError]]:
    """All results, and why devices went away before theirs were whole."""
    from ..device_bench import matrix
    from . import outcome, show

    with show.steps(quiet) as step:
        artifacts, unmade = matrix.made(checked, folder, on_step=step)
    lots = matrix.lots(checked, artifacts, folder, command=["evit-edge", *sys.argv[1:]])
    ended = outcome.side_by_side(lots, at_once=checked.source.says.at_once, quiet=quiet)
    found = [each for lot in ended for each in lot.results]
    rows = [*found, *matrix.rows_of(unmade, found[0] if found else None, lots[0])]
    return rows, [lot.lost for lot in ended if lot.lost]
