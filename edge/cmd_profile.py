"""`evit-edge profile`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .options import Device, Json, Seed

if TYPE_CHECKING:
    from ..device_bench.operators import Kind
    from ..device_bench.record import Profile

TIMEOUT_S: Final = 600.0


def profile(
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="A folder that `convert` wrote.")],
    runtime: Annotated[str | None, typer.Option(help="onnxruntime or torch; the target's own if not given.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads inside an operator.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Images at once.")] = 1,
    top: Annotated[int, typer.Option(min=1, help="How many of the slowest operators are named.")] = 10,
    device: Device = "local",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """The time of every operator, and the share of it that is memory-bound: in a process of its own, never timed."""
    from ..converters.artifact import read
    from ..device_bench import operators
    from ..device_bench.device import connect
    from ..device_bench.job import ProfileJob, ask
    from ..device_bench.record import Profile
    from ..device_bench.session import default_runtime

    opened, there = read(artifact), connect(device)
    name = runtime or default_runtime(opened.manifest.target, timed=True)
    job = ProfileJob(artifact=str(opened.folder.resolve()), runtime=name, threads=threads, batch=batch, seed=seed)
    found = ask(there, job, answer=Profile, timeout_s=TIMEOUT_S)
    kinds = operators.kinds(found.operators)
    if json:
        _as_json(found, kinds)
    else:
        _show(found, kinds, top=top)


def _as_json(found: Profile, kinds: Sequence[Kind]) -> None:
    from ..device_bench import operators
    from . import show

    strict, wide = operators.memory_bound(kinds)
    known = {"runs": found.runs, "memory_bound_share": strict, "memory_bound_share_with_elementwise": wide}
    each = [operator.model_dump() for operator in found.operators]
    show.json({**known, "kinds": [asdict(kind) for kind in kinds], "operators": each})


def _show(found: Profile, kinds: Sequence[Kind], *, top: int) -> None:
    from ..device_bench import operators
    from . import show

    strict, wide = operators.memory_bound(kinds)
    footer = (
        f"memory-bound: {strict:.1%} (moving, adding, normalizing), {wide:.1%} with element-wise functions and "
        f"pooling; {found.runs} runs with the profiler on: shares say more than times"
    )
    lines = [[kind.name, kind.bucket, str(kind.count), f"{kind.ns / 1e3:.1f}", f"{kind.share:.1%}"] for kind in kinds]
    show.table("", ["kind", "counted as", "operators", "µs", "share"], lines, footer=footer)
    slowest = sorted((each for each in found.operators if each.name), key=lambda each: each.ns, reverse=True)[:top]
    if slowest:
        show.table("", ["slowest", "kind", "µs"], [[each.name, each.kind, f"{each.ns / 1e3:.1f}"] for each in slowest])
