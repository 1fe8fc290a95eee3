"""`evit-edge bench`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from .options import (
    RESULTS,
    Artifacts,
    Batches,
    BenchmarkBinary,
    Device,
    Effort,
    Json,
    Quiet,
    Results,
    Seed,
    Threads,
    Verbose,
    counts,
)


def bench(
    artifacts: Artifacts,
    runtime: Annotated[
        list[str] | None,
        typer.Option(help="Give it again for another; torch is the original model. The target's own if not given."),
    ] = None,
    threads: Threads = "1",
    batch: Batches = "1",
    device: Device = "local",
    benchmark_binary: BenchmarkBinary = None,
    effort: Effort = "default",
    energy: Annotated[bool, typer.Option("--energy", help="Count joules too, where the machine can.")] = False,
    sustained: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=1, help="Then load each row so long; 600 shows throttling.")
    ] = None,
    cool_down: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0, help="Wait so long at most for a hot device, before each process."),
    ] = 60.0,
    strict_placement: Annotated[
        bool, typer.Option("--strict-placement", help="Fail rows whose delegate leaves a part of the model to others.")
    ] = False,
    out: Results = RESULTS,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Measure latency, throughput, load time and memory: every trial a fresh process, all rows in turns."""
    from ..converters.artifact import read
    from ..device_bench import plan, result, several
    from . import outcome, show

    matrix: dict[str, Any] = {"threads": counts(threads, "--threads"), "batches": counts(batch, "--batch")}
    opened = [read(folder) for folder in artifacts]
    # What is wrong with them is said before any device is called.
    plan.cells(opened, runtimes=runtime)
    result.require_writable(out)
    where = outcome.reached(device, energy=energy)
    wanted = plan.Plan(
        cells=plan.cells(opened, runtimes=runtime, offered=several.offered(where), **matrix),
        effort=effort,
        seed=seed,
        command=["evit-edge", *sys.argv[1:]],
        energy=energy,
        sustained_s=sustained,
        cool_down_s=cool_down,
        strict_placement=strict_placement,
    )
    results = outcome.measure(wanted, where, device, out, quiet=quiet)
    code = outcome.tell(results, as_json=json, verbose=verbose)
    show.note(f"raw results: {out}")
    return code
