"""`evit-edge bench`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .options import (
    RESULTS,
    Artifacts,
    Batches,
    BenchmarkBinary,
    CoolDown,
    Device,
    Effort,
    Energy,
    Json,
    Quiet,
    Results,
    Runtimes,
    Seed,
    StrictPlacement,
    Sustained,
    Threads,
    Verbose,
    counts,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ..device_bench.device import Device as Machine
    from ..device_bench.plan import Cell


def bench(
    artifacts: Artifacts,
    runtime: Runtimes = None,
    threads: Threads = "1",
    batch: Batches = "1",
    device: Device = "local",
    benchmark_binary: BenchmarkBinary = None,
    effort: Effort = "default",
    energy: Energy = False,
    sustained: Sustained = None,
    cool_down: CoolDown = 60.0,
    strict_placement: StrictPlacement = False,
    out: Results = RESULTS,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Measure latency, throughput, load time and memory: every trial a fresh process, all rows in turns."""
    from ..device_bench import plan, result
    from . import outcome, show

    matrix = {"runtimes": runtime, "threads": counts(threads, "--threads"), "batches": counts(batch, "--batch")}
    result.require_writable(out)
    cells, where = _reached(artifacts, device, energy=energy, matrix=matrix)
    wanted = plan.Plan(
        cells=cells,
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


def _reached(
    artifacts: Sequence[Path], address: str, *, energy: bool, matrix: dict[str, Any]
) -> tuple[list[Cell], Machine]:
    """What is measured, by runtimes that the device has, and the device."""
    from ..converters.artifact import read
    from ..device_bench import plan, several
    from . import outcome

    opened = [read(folder) for folder in artifacts]
    # What is wrong with them is said before any device is called.
    plan.cells(opened, **matrix)
    device = outcome.reached(address, energy=energy)
    return plan.cells(opened, **matrix, offered=several.offered(device)), device
