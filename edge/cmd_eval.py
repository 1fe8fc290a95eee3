"""`evit-edge eval`."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ..models.errors import Regression
from .options import Artifacts, Json, Quiet, Verbose

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..converters.labelled import Labelled
    from ..device_bench.accuracy import Share
    from ..device_bench.evaluation import Evaluated
    from ..device_bench.plan import Cell

SHARES: Final = ("artifact", "engine", "precision", "n", "top-1 % [95 %]", "top-5 % [95 %]")
PAIRED: Final = ("Δ points", "b", "c", "p", "agreement %")
MEANING: Final = (
    "Intervals: Wilson. Δ, against the original on the same images: b it had right and this one wrong, c the other way "
    "round; p: exact McNemar test. agreement: the same first class."
)


def evaluate(
    artifacts: Artifacts,
    data: Annotated[Path, typer.Option(help="A folder with one folder a class, or .npz with `images` and `labels`.")],
    runtime: Annotated[
        list[str] | None, typer.Option(help="Give it again for another; the target's own if not given.")
    ] = None,
    against_original: Annotated[
        bool, typer.Option("--against-original/--no-original", help="Also ask the model they were made from.")
    ] = True,
    limit: Annotated[
        int | None, typer.Option(min=1, help="The first images alone; of a folder, class by turn.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help="Keep answers there, and go on where it ends.")
    ] = None,
    max_drop: Annotated[
        float | None, typer.Option(min=0, help="End with 8 if top-1 is more points than this below the original's.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Top-1 and top-5 on labelled images, with intervals and a paired test against the original model."""
    from ..converters import labelled
    from ..converters.artifact import read
    from ..device_bench import evaluation

    if max_drop is not None and not against_original:
        raise typer.BadParameter("it needs the original: leave --no-original out", param_hint="--max-drop")
    opened = [read(folder) for folder in dict.fromkeys(artifacts)]
    cells = evaluation.cells(opened, runtimes=runtime, original=against_original)
    images = labelled.read(data, limit=limit)
    with _kept(resume) as file:
        rows = _ask(cells, images, file, quiet=quiet)
    _show(rows, images, as_json=json)
    return _verdict(rows, max_drop=max_drop, verbose=verbose)


@contextmanager
def _kept(resume: Path | None) -> Iterator[Path]:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="evit-edge-") as scratch:
        yield resume or Path(scratch, "answers.jsonl")


def _ask(cells: Sequence[Cell], images: Labelled, file: Path, *, quiet: bool) -> Sequence[Evaluated]:
    from ..device_bench import evaluation
    from . import show

    chunks, others = evaluation.unfinished(cells, images, file)
    if others:
        show.note(f"{file} also has answers of {others} other artifacts, engines or images: they do not count here")
    with show.counting(quiet, chunks) as advance:
        return evaluation.evaluate(cells, images, file, on_chunk=lambda cell: advance(_called(cell)))


def _show(rows: Sequence[Evaluated], images: Labelled, *, as_json: bool) -> None:
    from . import show

    if as_json:
        data = {"source": str(images.source), "count": len(images.labels), "sha256": images.sha256}
        show.json({"data": data, "rows": [_plain(row) for row in rows]})
    else:
        show.table("", SHARES + PAIRED, [_cells(row) for row in rows], footer=MEANING)


def _verdict(rows: Sequence[Evaluated], *, max_drop: float | None, verbose: bool) -> int:
    from . import show

    failures = [row.failure.error() for row in rows if row.failure]
    for failure in failures:
        show.error(failure, verbose=verbose)
    fallen = [row for row in rows if max_drop is not None and row.paired and -row.paired.points > max_drop]
    for row in fallen:
        points = -row.paired.points if row.paired else 0
        lost = f"{_called(row.cell)} in {row.cell.runtime} lost {points:.2f} points of top-1"
        show.error(Regression(f"{lost}, more than the {max_drop:g} that are allowed"))
    if failures:
        return failures[0].exit_code
    return Regression.exit_code if fallen else 0


def _called(cell: Cell) -> str:
    model = cell.artifact.manifest.model
    return f"{model.name}, {Path(model.weights).stem}" if cell.original else str(cell.artifact.folder)


def _cells(row: Evaluated) -> list[str]:
    shares = [str(row.top1.count), _share(row.top1), _share(row.top5)] if row.top1 and row.top5 else ["—"] * 3
    head = [_called(row.cell), row.engine, _precision(row.cell), *shares]
    if row.paired is None or row.top1 is None:
        return [*head, *["—"] * len(PAIRED)]
    paired = row.paired
    return [
        *head,
        f"{paired.points:+.2f}",
        str(paired.lost),
        str(paired.gained),
        f"{paired.p:.3f}" if paired.p >= 0.001 else "<0.001",
        f"{100 * paired.agreeing / row.top1.count:.2f}",
    ]


def _precision(cell: Cell) -> str:
    return "fp32" if cell.original else cell.artifact.manifest.precision


def _share(share: Share) -> str:
    return f"{100 * share.share:.2f} [{100 * share.low:.2f}, {100 * share.high:.2f}]"


def _plain(row: Evaluated) -> dict[str, Any]:
    from dataclasses import asdict

    artifact, original = row.cell.artifact, row.cell.original
    manifest = artifact.manifest
    return {
        "artifact": None if original else str(artifact.folder),
        "digest": None if original else artifact.digest,
        "model": manifest.model.name,
        "weights": manifest.model.weights,
        "model_digest": manifest.model.digest,
        "target": "original" if original else manifest.target,
        "precision": _precision(row.cell),
        "runtime": row.cell.runtime,
        "engine": row.engine,
        "top1": asdict(row.top1) if row.top1 else None,
        "top5": asdict(row.top5) if row.top5 else None,
        "against_original": asdict(row.paired) if row.paired else None,
        "failure": row.failure.model_dump() if row.failure else None,
    }
