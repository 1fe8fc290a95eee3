"""`evit-edge parity`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Artifacts, Json, Quiet, Verbose

if TYPE_CHECKING:
    from ..converters.artifact import ParityRecord


def parity(
    artifacts: Artifacts,
    against: Annotated[
        Path | None, typer.Option(help="Compare with this artifact's outputs instead of the original model's.")
    ] = None,
    runtime: Annotated[
        str | None, typer.Option(help="The engine that runs the artifact; its target's own if not given.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Check artifacts again, from disk: the same inputs, the same thresholds as when they were made."""
    from ..converters.artifact import read
    from ..converters.parity import check
    from ..device_bench.session import default_runtime, execute
    from ..models.errors import ParityFailed
    from . import show

    reference = None if against is None else read(against)
    verdicts = []
    for folder in artifacts:
        artifact = read(folder)
        engine = runtime or default_runtime(artifact.manifest.target)
        with show.steps(quiet) as step:
            step(f"running {folder} in {engine}")
            verdicts.append((folder, check(artifact, execute=execute, engine=engine, against=reference)))
    if json:
        show.json([{"folder": str(folder), **show.plain(verdict)} for folder, verdict in verdicts])
    else:
        _print(verdicts)
    return 0 if all(verdict.passed for _, verdict in verdicts) else ParityFailed.exit_code


def _print(verdicts: list[tuple[Path, ParityRecord]]) -> None:
    from ..converters.parity import at_least, percent
    from . import show

    columns = [
        "artifact",
        "engine",
        "inputs",
        "n",
        "cosine",
        "relative L2",
        "max |Δ|",
        "SQNR dB",
        "top-1",
        "top-5",
        "passed",
    ]
    rows = [
        [
            str(folder),
            verdict.engine,
            row.inputs,
            str(row.count),
            at_least(row.cosine),
            f"{row.relative_l2:.1e}",
            f"{row.max_abs:.1e}",
            "∞" if row.sqnr_db is None else f"{row.sqnr_db:.1f}",
            percent(row.top1),
            percent(row.top5),
            ("yes" if row.passed else "NO") if row.judged else "—",
        ]
        for folder, verdict in verdicts
        for row in verdict.rows
    ]
    show.table(
        "",
        columns,
        rows,
        footer="The worst sample of each group; agreements are shares of samples. —: does not count.",
    )
