"""What a fresh process works with: a verified artifact, an imported engine, and inputs as the file takes them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from ..converters import golden, tensors
from ..converters.artifact import GOLDEN, Artifact, read
from ..models.errors import MissingDependency, Unsupported
from .job import Measuring, OutputsJob
from .session import RUNTIMES, Feeds, Runtime, Session, called

if TYPE_CHECKING:
    from numpy.typing import NDArray

FREE_BATCH: Final = 16


def prepared(job: Measuring | OutputsJob) -> tuple[Runtime, Artifact]:
    """The engine, imported already so that its import is charged to nobody, and the verified artifact.

    Raises `Unsupported` for a batch that the artifact does not take.
    """
    runtime: Runtime = RUNTIMES.load(job.runtime)
    if not (runtime.timed or isinstance(job, OutputsJob)):
        raise Unsupported(f"{job.runtime} is not timed", f"it is {called(job.runtime)}; leave it to parity and predict")
    for module in runtime.requires:
        try:
            import_module(module)
        except ImportError as error:
            name = module.replace("_", "-")
            raise MissingDependency(
                f"runtime {job.runtime!r} needs the package {name}", f"pip install {name}"
            ) from error
    return runtime, opened(runtime, job)


def opened(runtime: Runtime, job: Measuring | OutputsJob) -> Artifact:
    """The verified artifact of `job`; raises `Unsupported` for one that `runtime` does not open, and for its batch."""
    artifact = read(Path(job.artifact))
    if not runtime.opens(artifact.manifest.target):
        raise Unsupported(f"{job.runtime} does not open {artifact.manifest.target} artifacts")
    if not isinstance(job, OutputsJob):
        _refuse_batch(job.batch, fixed=fixed_batch(runtime, artifact))
    return artifact


def fed(runtime: Runtime, artifact: Artifact, values: Feeds) -> Feeds:
    """The model's inputs as this engine takes them: the original as they are, the artifact as its file says."""
    if runtime.original:
        return values
    return {record.name: tensors.to_file(record, values[record.name]) for record in artifact.manifest.inputs}


def fixed_batch(runtime: Runtime, artifact: Artifact) -> int | None:
    """The one batch that the engine takes, None where any will do."""
    return None if runtime.original else artifact.manifest.inputs[0].shape[0]


def _refuse_batch(batch: int, *, fixed: int | None) -> None:
    if fixed not in (None, batch):
        raise Unsupported(f"batch fixed at {fixed}", f"measure it with batch {fixed}, or convert it for batch {batch}")


def real_or_noise(artifact: Artifact, *, batch: int, seed: int) -> tuple[Literal["images", "noise"], Feeds]:
    """The artifact's own images, over and over if there are fewer, or noise where it has none; and which it is."""
    import numpy as np

    drawn = noise(artifact, batch=batch, seed=seed)
    if not (artifact.folder / GOLDEN).exists():
        return "noise", drawn
    images = golden.feeds(artifact)[golden.IMAGES]
    return "images", {name: np.resize(images[name], array.shape) for name, array in drawn.items()}


def noise(artifact: Artifact, *, batch: int, seed: int) -> Feeds:
    """Standard normal numbers, float32, as the model's inputs."""
    import numpy as np

    rng = np.random.default_rng(seed)
    feeds = {}
    for record in artifact.manifest.inputs:
        # Only the batch can be None.
        sizes = [size for size in tensors.model_shape(record)[1:] if size is not None]
        feeds[record.name] = rng.standard_normal((batch, *sizes), np.float32)
    return feeds


def run_in_chunks(session: Session, feeds: Feeds, *, batch: int | None) -> list[NDArray[Any]]:
    """The outputs of all samples, each (n, …); the last of a fixed batch's samples fill its last run up."""
    import numpy as np

    count = len(next(iter(feeds.values())))
    size = batch or FREE_BATCH
    answers = []
    for start in range(0, count, size):
        chunk = {name: array[start : start + size] for name, array in feeds.items()}
        if batch:
            missing = start + batch - count
            chunk = {
                name: np.concatenate([array, *[array[-1:]] * missing]) if missing > 0 else array
                for name, array in chunk.items()
            }
        answers.append(session.run(chunk))
    return [np.concatenate(parts)[:count] for parts in zip(*answers, strict=True)]
