"""`evit-edge parity`."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from .options import Artifacts, Json, Quiet, Verbose

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..converters.artifact import Artifact, ParityRecord, ParityRow
    from ..converters.coreml.trace import Step
    from ..converters.parity import Execute

COLUMNS: Final = (
    "artifact", "engine", "inputs", "n", "cosine", "relative L2", "max |Δ|", "SQNR dB", "top-1", "top-5", "passed",
)  # fmt: skip
TRACED: Final = 8


def parity(
    artifacts: Artifacts,
    against: Annotated[
        Path | None, typer.Option(help="Compare with this artifact's outputs instead of the original model's.")
    ] = None,
    runtime: Annotated[
        str | None, typer.Option(help="The engine that runs the artifact; its target's own if not given.")
    ] = None,
    operators: Annotated[
        int, typer.Option(min=0, help="Core ML: also this many operators where rounding costs most.")
    ] = 0,
    device: Annotated[str, typer.Option(help="Where the artifact runs: local, or ssh:HOST.")] = "local",
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Check artifacts again, from disk: the same inputs, the same thresholds as when they were made."""
    from ..device_bench.device import connect
    from ..device_bench.session import execute
    from ..models.errors import ParityFailed
    from . import show

    run = partial(execute, device=connect(device))
    with show.steps(quiet) as step:
        found = [_check(folder, against, run, runtime=runtime, operators=operators, step=step) for folder in artifacts]
    if json:
        show.json([{"folder": str(one.folder), **show.plain(one.verdict), "operators": one.plain} for one in found])
    else:
        _print(found)
        for one in found:
            if one.steps:
                _print_operators(one, operators)
    return 0 if all(one.verdict.passed for one in found) else ParityFailed.exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    folder: Path
    verdict: ParityRecord
    steps: Sequence[Step]

    @property
    def plain(self) -> list[dict[str, Any]]:
        """The steps for JSON, which has no infinity."""
        words = {math.inf: "Infinity", -math.inf: "-Infinity"}
        return [{key: words.get(value, value) for key, value in asdict(step).items()} for step in self.steps]


def _check(
    folder: Path,
    against: Path | None,
    run: Execute,
    *,
    runtime: str | None,
    operators: int,
    step: Callable[[str], None],
) -> _Checked:
    from ..converters.artifact import read
    from ..converters.parity import check
    from ..device_bench.session import default_runtime

    artifact = read(folder)
    engine = runtime or default_runtime(artifact.manifest.target)
    step(f"running {folder} in {engine}")
    verdict = check(artifact, execute=run, engine=engine, against=None if against is None else read(against))
    step(f"looking at the operators of {folder}")
    return _Checked(folder=folder, verdict=verdict, steps=_traced(artifact, engine) if operators else ())


def _print(found: Sequence[_Checked]) -> None:
    from . import show

    show.table(
        "",
        COLUMNS,
        [_cells(one, row) for one in found for row in one.verdict.rows],
        footer="The worst sample of each group; agreements are shares of samples. —: does not count.",
    )


def _cells(checked: _Checked, row: ParityRow) -> list[str]:
    from ..converters.parity import at_least, percent
    from ..device_bench.session import called

    return [
        str(checked.folder),
        called(checked.verdict.engine),
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


def _traced(artifact: Artifact, engine: str) -> Sequence[Step]:
    """What each operator does to the images; raises `Unsupported` for an engine that cannot tell."""
    from ..converters import golden
    from ..device_bench.session import RUNTIMES, Tracing, called
    from ..models.errors import Unsupported

    runtime = RUNTIMES.load(engine)
    if not isinstance(runtime, Tracing):
        raise Unsupported(f"{called(engine)} does not tell what each operator does", "leave --operators out")
    images = golden.feeds(artifact)[golden.IMAGES]
    return runtime.trace(artifact, {name: array[:TRACED] for name, array in images.items()})


def _print_operators(checked: _Checked, count: int) -> None:
    from . import show

    worst = sorted(checked.steps, key=lambda step: step.lost_db, reverse=True)[:count]
    rows = [
        [
            step.name,
            step.kind,
            step.dtype,
            f"{step.largest:.4g}" if step.finite else "overflow",
            f"{step.sqnr_db:.1f}",
            f"{step.lost_db:.1f}",
        ]
        for step in worst
    ]
    show.table(
        f"{checked.folder}: where rounding costs most",
        ["result", "operator", "dtype", "largest |x|", "SQNR dB", "lost here dB"],
        rows,
        footer=f"On {TRACED} images, rounded to its dtype against not. float16 ends at 65,504.",
    )
