"""What a fresh process does: `python -m evit_edge.device_bench.trial JOB.json REPLY.json`.

Its standard input is held open by whoever started it, and the trial ends when that closes.
"""

from __future__ import annotations

import gc
import re
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel

from ..converters import child, golden, tensors
from ..converters.artifact import GOLDEN, Artifact, read
from ..models.errors import EdgeError, MissingDependency, Unsupported
from . import protocol
from .job import JOB, Done, MemoryJob, OutputsJob, Reply, TimeJob
from .result import Failure, Memory, Timing
from .session import RUNTIMES, Delegating, Feeds, Runtime, Session, called

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEMORY_RUNS: Final = 5
FREE_BATCH: Final = 16


def timed(job: TimeJob) -> Timing:
    """Load, first inference, warm-up and samples, each with its own nanoseconds."""
    runtime, artifact = prepared(job)
    _refuse_batch(job.batch, fixed=fixed_batch(runtime, artifact))
    source, values = _real_or_noise(artifact, batch=job.batch, seed=job.seed)
    feeds = fed(runtime, artifact, values)
    effort = protocol.EFFORTS[job.effort]
    clock = time.perf_counter_ns
    start = clock()
    session = runtime.open(artifact, threads=job.threads)
    loaded = clock()
    session.run(feeds)
    first = clock()
    # A collection of garbage inside a sample would be charged to the model.
    gc.collect()
    gc.disable()
    warm = protocol.warm_up(session.run, feeds, clock=clock, cap_ns=effort.warm_up_cap_ns)
    block = protocol.block_size(median(warm.calls_ns))
    samples = protocol.sample(session.run, feeds, block=block, effort=effort, clock=clock)
    placement = session.placement() if isinstance(session, Delegating) else None
    session.close()
    return Timing(
        inputs=source,
        load_ns=loaded - start,
        first_ns=first - loaded,
        warm_up_ns=tuple(warm.calls_ns),
        warm_up_converged=warm.converged,
        block=block,
        samples_ns=tuple(samples),
        placement=placement,
    )


def weighed(job: MemoryJob) -> Memory:
    """Peak memory after loading and some runs, and what it was before; the engine was imported by then."""
    runtime, artifact = prepared(job)
    _refuse_batch(job.batch, fixed=fixed_batch(runtime, artifact))
    # Not the images: reading them would raise the peak that the model has to exceed to be seen.
    feeds = fed(runtime, artifact, _noise(artifact, batch=job.batch, seed=job.seed))
    before = _peak_bytes()
    session = runtime.open(artifact, threads=job.threads)
    for _ in range(MEMORY_RUNS):
        session.run(feeds)
    peak = _peak_bytes()
    session.close()
    return Memory(before_bytes=before, peak_bytes=peak)


def answered(job: OutputsJob) -> Done:
    """Run all samples of `job.inputs`, in chunks of the artifact's batch, and save `job.outputs`."""
    import numpy as np

    runtime, artifact = prepared(job)
    with np.load(job.inputs, allow_pickle=False) as file:
        arrays = [file[name] for name in file.files]
    values = {tensor.name: array for tensor, array in zip(artifact.manifest.inputs, arrays, strict=True)}
    session = runtime.open(artifact, threads=job.threads)
    feeds = fed(runtime, artifact, values)
    answers = run_in_chunks(session, feeds, batch=fixed_batch(runtime, artifact))
    if not runtime.original:
        answers = [
            tensors.to_model(record, part) for record, part in zip(artifact.manifest.outputs, answers, strict=True)
        ]
    np.savez(job.outputs, *answers)
    return Done()


def prepared(job: TimeJob | MemoryJob | OutputsJob) -> tuple[Runtime, Artifact]:
    """The engine, imported already so that its import is charged to nobody, and the verified artifact."""
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
    artifact = read(Path(job.artifact))
    if not runtime.opens(artifact.manifest.target):
        raise Unsupported(f"{job.runtime} does not open {artifact.manifest.target} artifacts")
    return runtime, artifact


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


def _real_or_noise(artifact: Artifact, *, batch: int, seed: int) -> tuple[Literal["images", "noise"], Feeds]:
    import numpy as np

    noise = _noise(artifact, batch=batch, seed=seed)
    if not (artifact.folder / GOLDEN).exists():
        return "noise", noise
    images = golden.feeds(artifact)[golden.IMAGES]
    return "images", {name: np.resize(images[name], array.shape) for name, array in noise.items()}


def _noise(artifact: Artifact, *, batch: int, seed: int) -> Feeds:
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


def _peak_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        peak = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
        if peak:
            return int(peak[1]) * 1024
    import resource

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def main(arguments: list[str]) -> None:
    """Do the job and write the reply; anything but an `EdgeError` is left to crash, and is reported as such."""
    question, reply = (Path(argument) for argument in arguments)
    child.die_with_parent()
    job = JOB.validate_json(question.read_bytes())
    work: dict[type[Any], Callable[[Any], BaseModel]] = {TimeJob: timed, MemoryJob: weighed, OutputsJob: answered}
    try:
        answer = Reply[BaseModel](answer=work[type(job)](job))
    except EdgeError as error:
        answer = Reply[BaseModel](failure=Failure.of(error))
    reply.write_text(answer.model_dump_json(serialize_as_any=True))


if __name__ == "__main__":
    main(sys.argv[1:])
