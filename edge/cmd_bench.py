"""`evit-edge bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Artifacts, Json, Quiet, Seed, Verbose

if TYPE_CHECKING:
    from ..device_bench.plan import Cell
    from ..device_bench.result import Result


def bench(
    artifacts: Artifacts,
    runtime: Annotated[
        list[str] | None,
        typer.Option(help="Give it again for another; torch is the original model. The target's own if not given."),
    ] = None,
    threads: Annotated[str, typer.Option(help="Thread counts, as 1,2,4.")] = "1",
    batch: Annotated[str, typer.Option(help="Batch sizes, as 1,16.")] = "1",
    device: Annotated[str, typer.Option(help="Where to measure: local.")] = "local",
    effort: Annotated[str, typer.Option(help="quick, default or rigorous: 6, 10 or 30 processes a row.")] = "default",
    out: Annotated[Path, typer.Option(help="Raw results are added to this file, a line a row.")] = Path(
        "results.jsonl"
    ),
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Measure latency, throughput, load time and memory: every trial a fresh process, all rows in turns."""
    from ..converters.artifact import read
    from ..device_bench import plan, result

    thread_counts, batches = _counts(threads, "--threads"), _counts(batch, "--batch")
    opened = [read(folder) for folder in artifacts]
    cells = plan.cells(opened, runtimes=runtime, threads=thread_counts, batches=batches)
    result.require_writable(out)
    results = _measure(cells, device, effort=effort, seed=seed, quiet=quiet)
    return _keep_and_show(results, out, as_json=json, verbose=verbose)


def _measure(cells: list[Cell], device: str, *, effort: str, seed: int, quiet: bool) -> list[Result]:
    import sys

    from ..device_bench import plan
    from ..device_bench.device import connect
    from . import show

    with show.counting(quiet, plan.processes(cells, effort=effort)) as advance:
        return plan.run(
            cells,
            connect(device),
            effort=effort,
            seed=seed,
            command=["evit-edge", *sys.argv[1:]],
            on_step=lambda step: advance(f"{step.cell.artifact.manifest.model.name} in {step.cell.runtime}"),
        )


def _keep_and_show(results: list[Result], out: Path, *, as_json: bool, verbose: bool) -> int:
    from ..device_bench import result, table
    from . import show

    for measured in results:
        result.append(out, measured)
    if as_json:
        show.line(table.json(results).rstrip())
    else:
        show.table(*table.narrow(results), footer=table.legend(results))
        show.note(f"raw results: {out}")
    failures = [measured.failure.error() for measured in results if measured.failure]
    for failure in failures:
        show.error(failure, verbose=verbose)
    return failures[0].exit_code if failures else 0


def _counts(text: str, option: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise typer.BadParameter(f"{text!r} is not a list of numbers such as 1,2,4", param_hint=option)
    return list(dict.fromkeys(counts))
