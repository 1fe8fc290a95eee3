"""Artifacts, runtimes and the original on labelled images: asked one after another, and counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..models.errors import EdgeError, FileProblem, Unsupported
from . import accuracy, plan, ranking
from .accuracy import Paired, Share
from .plan import Cell
from .record import Failure
from .session import RUNTIMES, default_runtime, original_runtime

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..converters.artifact import Artifact
    from ..converters.labelled import Labelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """One cell: its shares, None where it failed; `paired` is None for the original, and without one.

    `engine` is the runtime with the version of its package.
    """

    cell: Cell
    engine: str
    top1: Share | None = None
    top5: Share | None = None
    paired: Paired | None = None
    failure: Failure | None = None


def cells(artifacts: Sequence[Artifact], *, runtimes: Sequence[str] | None, original: bool) -> list[Cell]:
    """The original models, if they are wanted or among `runtimes`, then each artifact in its runtimes.

    `runtimes` None is each target's default. Raises `UnknownName` for a runtime, and `Unsupported` for an artifact
    that none of them opens, and for what does not take pictures and give classes.
    """
    for artifact in artifacts:
        _refuse_others(artifact)
    originals = [name for name in RUNTIMES.names() if RUNTIMES.load(name).original]
    if runtimes:
        found = plan.cells(artifacts, runtimes=runtimes)
    else:
        found = [
            cell for each in artifacts for cell in plan.cells([each], runtimes=[default_runtime(each.manifest.target)])
        ]
    wanted = [original_runtime()] if original else [name for name in originals if name in (runtimes or ())]
    first = plan.cells(artifacts, runtimes=wanted) if wanted else []
    return first + [cell for cell in found if not cell.original]


def unfinished(cells: Sequence[Cell], data: Labelled, file: Path) -> tuple[int, int]:
    """How many chunks of images `file` does not have the answers to, and to how many questions of others it has.

    Raises `FileProblem` for labels that the models do not have and for a file of something else.
    """
    for cell in cells:
        _classes(cell.artifact, data)
    questions = _questions(cells, data)
    known = ranking.read(file)
    missing = [max(0, len(data.labels) - len(known.get(question, ()))) for question in questions]
    return sum(math.ceil(count / ranking.CHUNK) for count in missing), len(known.keys() - set(questions))


def evaluate(
    cells: Sequence[Cell], data: Labelled, file: Path, *, on_chunk: Callable[[Cell], None] = lambda cell: None
) -> list[Evaluated]:
    """Ask every cell about all images, each in a process of its own; what `file` has already is not asked again.

    A cell that fails has its reason in its row. `on_chunk` is called from another thread. Raises `FileProblem` for
    images, labels or a file that cannot be used, since that is the same for every cell.
    """
    questions = _questions(cells, data)
    failures = [
        _ask(cell, question, data, file, on_chunk=on_chunk) for cell, question in zip(cells, questions, strict=True)
    ]
    known = ranking.read(file)
    count = len(data.labels)
    tops = [None if failure else known[question][:count] for failure, question in zip(failures, questions, strict=True)]
    references = {
        question.model: top for cell, question, top in zip(cells, questions, tops, strict=True) if cell.original
    }
    return [
        Evaluated(cell=cell, engine=question.engine, failure=failure)
        if top is None
        else _counted(cell, question, top, data, reference=references.get(question.model))
        for cell, question, top, failure in zip(cells, questions, tops, failures, strict=True)
    ]


def _refuse_others(artifact: Artifact) -> None:
    manifest = artifact.manifest
    if len(manifest.inputs) != 1 or len(manifest.outputs[0].shape) != 2:
        raise Unsupported(
            f"{artifact.folder} cannot be counted: it does not give one value for each class of a picture",
            "compare it with the original: evit-edge parity",
        )


def _questions(cells: Sequence[Cell], data: Labelled) -> list[ranking.Question]:
    return [ranking.Question.of(cell, data.sha256) for cell in cells]


def _classes(artifact: Artifact, data: Labelled) -> NDArray[np.int64]:
    manifest = artifact.manifest
    # Only the batch can be None.
    return data.classes(manifest.outputs[0].shape[-1] or 0, manifest.model.labels)


def _ask(
    cell: Cell, question: ranking.Question, data: Labelled, file: Path, *, on_chunk: Callable[[Cell], None]
) -> Failure | None:
    # Read anew: two folders may hold the same file.
    start, stop = len(ranking.read(file).get(question, ())), len(data.labels)
    if start >= stop:
        return None
    try:
        ranking.rank(cell, question, data.source, start=start, stop=stop, file=file, on_chunk=lambda: on_chunk(cell))
    except EdgeError as error:
        # Its subclasses are about an artifact or weights: another cell may have good ones.
        if type(error) is FileProblem:
            raise
        return Failure.of(error)
    return None


def _counted(
    cell: Cell,
    question: ranking.Question,
    top: NDArray[np.int64],
    data: Labelled,
    *,
    reference: NDArray[np.int64] | None,
) -> Evaluated:
    labels = _classes(cell.artifact, data)
    against = None if cell.original or reference is None else accuracy.paired(top[:, 0], reference[:, 0], labels)
    return Evaluated(
        cell=cell,
        engine=question.engine,
        top1=accuracy.share(top[:, :1], labels),
        top5=accuracy.share(top, labels),
        paired=against,
    )
