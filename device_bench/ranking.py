"""The likeliest classes of many images, found by one child process and kept as it goes: a line for each few images."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..converters import child, labelled, tensors
from ..models.errors import DeviceFailed, FileProblem
from .feeding import fed, fixed_batch, prepared, run_in_chunks
from .job import OutputsJob
from .plan import Cell
from .record import Sha256
from .session import RUNTIMES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TOP: Final = 5
CHUNK: Final = 64
START_S: Final = 600.0
IMAGE_S: Final = 10.0
PAUSE_S: Final = 0.2


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Question(_Record):
    """What decides the answers: the file (null: the original model), its model, the engine and the images."""

    artifact: Sha256 | None
    model: str
    engine: str
    images: Sha256

    @classmethod
    def of(cls, cell: Cell, images: Sha256) -> Question:
        """What `cell` is asked about images of that digest, with the version of the engine that is installed."""
        runtime = RUNTIMES.load(cell.runtime)
        package = (*runtime.requires, cell.runtime)[0].replace("_", "-")
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            engine = cell.runtime
        else:
            engine = f"{package} {version}" if package == cell.runtime else f"{cell.runtime}, {package} {version}"
        manifest = cell.artifact.manifest
        digest = None if cell.original else cell.artifact.digest
        return cls(artifact=digest, model=manifest.model.digest, engine=engine, images=images)


class Answers(_Record):
    """One line: the classes of the images from number `start` on, the likeliest first.

    None for an image whose outputs are not all finite, `TOP` for others, or all if there are fewer.
    """

    schema_: Literal[1] = Field(default=1, alias="schema")
    question: Question
    start: Annotated[int, Field(ge=0)]
    top: tuple[Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(max_length=TOP)], ...]


class _RankJob(OutputsJob):
    """Answer `question` about the images from `start` to `stop` of `inputs`, a labelled source, into `outputs`."""

    question: Question
    start: int
    stop: int


def rank(
    cell: Cell, question: Question, source: Path, *, start: int, stop: int, file: Path, on_chunk: Callable[[], None]
) -> None:
    """Add the answers for the images from `start` to `stop` of a labelled `source` to `file`, in a child process.

    The child reads and prepares the images itself, `CHUNK` at a time, and writes after each, so that an end at any
    time loses no more; `on_chunk` is called from another thread after each. Raises the child's own error, or
    `DeviceFailed` if the engine crashes or hangs.
    """
    job = _RankJob(
        artifact=str(cell.artifact.folder.resolve()),
        runtime=cell.runtime,
        threads=cell.threads,
        inputs=str(source),
        outputs=str(file.absolute()),
        question=question,
        start=start,
        stop=stop,
    )
    with _watched(file, on_chunk):
        try:
            child.call(
                f"{__package__}.ranking",
                job.model_dump(mode="json", by_alias=True),
                timeout_s=START_S + IMAGE_S * (stop - start),
            )
        except child.ChildCrashed as error:
            raise DeviceFailed(f"{cell.runtime} {error.message}") from error


def read(file: Path) -> dict[Question, NDArray[np.int64]]:
    """By question, the classes of as many images as were answered without a gap: int64 (n, TOP), -1 for none.

    A last line that was cut off is taken away from the file. Raises `FileProblem` for a file of anything else.
    """
    import numpy as np

    found: dict[Question, list[tuple[int, ...]]] = {}
    for line in _lines(file):
        tops = found.setdefault(line.question, [])
        # Two runs at once may have answered the same.
        if line.start <= len(tops):
            tops[line.start : line.start + len(line.top)] = line.top
    return {
        question: np.asarray([[*top, *[-1] * (TOP - len(top))] for top in tops], np.int64).reshape(-1, TOP)
        for question, tops in found.items()
    }


def best(outputs: NDArray[Any]) -> list[list[int]]:
    """The `TOP` largest of each row of (n, classes), first the largest, of equals the first; none of a row with NaN."""
    import numpy as np

    order = np.argsort(-outputs, axis=1, kind="stable")[:, :TOP]
    finite = np.isfinite(outputs).all(axis=1)
    return [row if good else [] for row, good in zip(order.tolist(), finite.tolist(), strict=True)]


def _lines(file: Path) -> Iterator[Answers]:
    try:
        with file.open("rb+") as lines:
            whole = 0
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n"):
                    break
                yield _parsed(line, f"{file}, line {number}")
                whole += len(line)
            lines.truncate(whole)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unusable(file, error) from error


def _parsed(line: bytes, where: str) -> Answers:
    try:
        return Answers.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "the line"
        raise FileProblem(f"{where} holds no answers: {field}: {first['msg']}", "name another file") from error


def _unusable(file: Path, error: OSError) -> FileProblem:
    return FileProblem(f"{file} cannot be written: {error.strerror or error}", "name another file")


@contextmanager
def _watched(file: Path, on_chunk: Callable[[], None]) -> Iterator[None]:
    """Call `on_chunk` for every line that is added to `file` in the block."""
    try:
        lines = file.open("ab+")
    except OSError as error:
        raise _unusable(file, error) from error
    over = threading.Event()

    def look() -> None:
        ended = False
        while not ended:
            # Before reading: what is written in between is read in the last turn.
            ended = over.wait(PAUSE_S)
            for _ in range(lines.read().count(b"\n")):
                on_chunk()

    with lines:
        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()


def _ranked(known: dict[str, Any]) -> None:
    """The child's side."""
    import numpy as np

    job = _RankJob.model_validate(known)
    runtime, artifact = prepared(job)
    manifest = artifact.manifest
    preprocess = manifest.model.preprocess.value()
    session = runtime.open(artifact, threads=job.threads)
    images = labelled.pixels(Path(job.inputs), preprocess, start=job.start, stop=job.stop)
    for start in range(job.start, job.stop, CHUNK):
        pixels = np.stack(list(islice(images, min(CHUNK, job.stop - start))))
        feeds = fed(runtime, artifact, {manifest.inputs[0].name: preprocess.normalise(pixels)})
        outputs = run_in_chunks(session, feeds, batch=fixed_batch(runtime, artifact))[0]
        if not runtime.original:
            outputs = tensors.to_model(manifest.outputs[0], outputs)
        _append(Path(job.outputs), Answers(question=job.question, start=start, top=best(outputs)))  # type: ignore[arg-type]
    session.close()


def _append(file: Path, answers: Answers) -> None:
    line = answers.model_dump_json(by_alias=True).encode() + b"\n"
    try:
        with file.open("ab", buffering=0) as lines:
            end = lines.tell()
            written = lines.write(line)
            if written != len(line):
                lines.truncate(end)
                raise OSError("no space left on the device")
            os.fsync(lines.fileno())
    except OSError as error:
        raise _unusable(file, error) from error


if __name__ == "__main__":
    child.serve(_ranked)
