"""`evit-edge compare`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..models.errors import Regression
from .options import RESULTS, Batches, Device, FailAbove, Json, Quiet, Results, Seed, Threads, counts

if TYPE_CHECKING:
    from ..device_bench.comparison import Comparison
    from ..device_bench.duel import Duel, Measure, Regressed
    from ..device_bench.plan import Cell
    from ..device_bench.result import Result


class Metric(StrEnum):
    """What stands for a process."""

    MEDIAN = "median"
    MIN = "min"


def compare(
    subjects: Annotated[
        list[Path], typer.Argument(metavar="A B…", help="Artifacts to measure in turns, or results; A is the baseline.")
    ],
    baseline: Annotated[
        Path | None, typer.Option(metavar="RESULTS", help="Hold them against these results of an earlier run.")
    ] = None,
    fail_above: FailAbove = None,
    metric: Annotated[Metric, typer.Option(help="Of a process; min is for questions of code.")] = Metric.MEDIAN,
    runtime: Annotated[list[str] | None, typer.Option(help="The target's own if not given.")] = None,
    threads: Threads = "1",
    batch: Batches = "1",
    device: Device = "local",
    effort: Annotated[
        str, typer.Option(help="paired: 20 rounds; default, rigorous: at least 10, 30; quick never gives a verdict.")
    ] = "paired",
    out: Results = RESULTS,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Slower, faster, the same, or not to be told: rounds side by side, and an exact test."""
    from ..device_bench import duel, result

    matrix = {"runtimes": runtime, "threads": counts(threads, "--threads"), "batches": counts(batch, "--batch")}
    duels = _duels(subjects, baseline, matrix)
    result.require_writable(out)
    first, second = (
        # The second time in another order, so that nothing of the first one is in it.
        _measuring(device, effort=effort, seed=drawn, out=out, quiet=quiet)
        for drawn in (seed, seed + 1)
    )
    found = duel.settle(duels, first, metric=metric.value)
    if fail_above is None:
        _show(found, as_json=json)
        return 0
    slower = duel.regressed(duels, found, second, most=fail_above, metric=metric.value)
    _show([*found, *slower.again], as_json=json)
    return _fail(slower, fail_above)


def _measuring(device: str, *, effort: str, seed: int, out: Path, quiet: bool) -> Measure:
    from ..device_bench import plan
    from . import outcome

    def measure(cells: Sequence[Cell]) -> Sequence[Result]:
        wanted = plan.Plan(cells=cells, effort=effort, seed=seed, command=["evit-edge", *sys.argv[1:]])
        return outcome.measure(wanted, outcome.reached(device), device, out, quiet=quiet)

    return measure


def _duels(subjects: Sequence[Path], baseline: Path | None, matrix: dict[str, Any]) -> list[Duel]:
    from ..converters import artifact
    from ..device_bench import duel, plan, result

    opened = [artifact.read(path) for path in subjects if path.is_dir()]
    measured = [one for path in subjects if not path.is_dir() for one in result.read(path)]
    if opened and measured:
        raise typer.BadParameter("give artifacts or results, not both", param_hint="A B…")
    if baseline:
        return duel.against(result.read(baseline), opened or measured)
    return duel.of_cells(plan.cells(opened, **matrix)) if opened else duel.of_results(measured)


def _show(found: Sequence[Comparison], *, as_json: bool) -> None:
    from ..device_bench import comparison
    from . import show

    if as_json:
        show.json([asdict(row) for row in comparison.rows(found)])
        return
    lines = [comparison.cells(row) for row in comparison.rows(found)]
    show.table("", comparison.COLUMNS, lines, footer=comparison.MEANING)


def _fail(slower: Regressed, most: float) -> int:
    from . import show

    for found, how in (
        (slower.confirmed, "twice over"),
        (slower.recorded, "by the record alone, it could not be measured again"),
    ):
        if found:
            show.error(Regression(f"{len(found)} of them slower by more than {most:.1%}, {how}"))
    return Regression.exit_code if slower.confirmed or slower.recorded else 0
