"""`evit-edge run`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Json, Quiet, Verbose

if TYPE_CHECKING:
    from ..device_bench.matrix import Checked
    from ..device_bench.plan import Plan
    from ..device_bench.result import Result


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
    with runfolder.taken(folder, source.text):
        if (folder / runfolder.RESULTS).exists():
            show.note(f"{folder} is finished: nothing was measured again")
            runfolder.remove_journals(folder)
        else:
            runfolder.finish(_results(matrix.check(source), folder, quiet=quiet), folder)
        results = result.read(folder / runfolder.RESULTS)
    code = outcome.tell(results, as_json=json, verbose=verbose)
    show.note(f"raw results: {folder / runfolder.RESULTS}")
    return code


def _results(checked: Checked, folder: Path, *, quiet: bool) -> list[Result]:
    from ..device_bench import matrix
    from . import show

    with show.steps(quiet) as step:
        artifacts, unmade = matrix.made(checked, folder, on_step=step)
    wanted = matrix.planned(checked, artifacts, command=["evit-edge", *sys.argv[1:]])
    found = _measured(wanted, checked, folder, quiet=quiet)
    return [*found, *matrix.rows_of(unmade, found[0] if found else None, wanted, checked.devices[0])]


def _measured(wanted: Plan, checked: Checked, folder: Path, *, quiet: bool) -> list[Result]:
    from ..device_bench import matrix, plan
    from . import show

    with show.counting(quiet, plan.least_processes(wanted) * len(checked.devices)) as advance:
        return matrix.measured(wanted, checked.devices, folder, on_step=lambda step: advance(step.label))
