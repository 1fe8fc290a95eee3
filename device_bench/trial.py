"""What a fresh process does: `python -m evit_edge.device_bench.trial JOB.json REPLY.json`.

Its standard input is held open by whoever started it, and the trial ends when that closes.
"""

from __future__ import annotations

import gc
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from ..converters import child, tensors
from ..models.errors import EdgeError, Unsupported
from . import conditions, cores, energy, feeding, protocol
from .record import Energy, Failure, Memory, Profile, Sustained, Timing
from .session import Delegating, Feeds, Profiling, Session

if TYPE_CHECKING:
    from .job import Done, EnergyJob, MemoryJob, OutputsJob, ProfileJob, SustainedJob, TimeJob

MEMORY_RUNS: Final = 5
PROFILE_RUNS: Final = 50
WINDOW_S: Final = 10.0


def timed(job: TimeJob) -> Timing:
    """Load, first inference, warm-up and samples, each with its own nanoseconds."""
    bound = cores.bind(job.threads)
    runtime, artifact = feeding.prepared(job)
    source, values = feeding.real_or_noise(artifact, batch=job.batch, seed=job.seed)
    feeds = feeding.fed(runtime, artifact, values)
    before = conditions.now(probe=True)
    effort, clock = protocol.EFFORTS[job.effort], time.perf_counter_ns
    start = clock()
    session = runtime.open(artifact, threads=job.threads)
    loaded = clock()
    session.run(feeds)
    first = clock()
    with _no_collection():
        warm = protocol.warm_up(session.run, feeds, clock=clock, cap_ns=effort.warm_up_cap_ns)
        block = protocol.block_size(median(warm.calls_ns))
        samples = protocol.sample(session.run, feeds, block=block, effort=effort, meter=meter())
    placement = session.placement() if isinstance(session, Delegating) else None
    session.close()
    return Timing(
        inputs=source,
        input_dtypes=tuple(str(array.dtype) for array in feeds.values()),
        inputs_sha256=_digest(feeds),
        cores=bound,
        load_ns=loaded - start,
        first_ns=first - loaded,
        warm_up_ns=tuple(warm.calls_ns),
        warm_up_converged=warm.converged,
        block=block,
        samples_ns=tuple(samples.wall_ns),
        cpu_ns=tuple(samples.cpu_ns),
        switches=tuple(samples.switches),
        placement=placement,
        before=before,
        after=conditions.now(probe=True),
    )


def weighed(job: MemoryJob) -> Memory:
    """Peak memory after loading and some runs, and what it was before; the engine was imported by then."""
    cores.bind(job.threads)
    runtime, artifact = feeding.prepared(job)
    # Not the images: reading them would raise the peak that the model has to exceed to be seen.
    feeds = feeding.fed(runtime, artifact, feeding.noise(artifact, batch=job.batch, seed=job.seed))
    before = _peak_bytes()
    session = runtime.open(artifact, threads=job.threads)
    for _ in range(MEMORY_RUNS):
        session.run(feeds)
    peak = _peak_bytes()
    session.close()
    return Memory(before_bytes=before, peak_bytes=peak)


def powered(job: EnergyJob) -> Energy:
    """Joules of an inference, by the first source that this machine has."""
    with _warm(job) as (session, feeds):
        return energy.measured(session.run, feeds, energy.source())


def sustained(job: SustainedJob) -> Sustained:
    """Latency under lasting load, window by window."""
    with _warm(job) as (session, feeds):
        medians, calls, temperatures = list[float](), list[int](), list[float | None]()
        for window in protocol.sustain(
            session.run,
            feeds,
            duration_ns=round(job.duration_s * protocol.SECOND_NS),
            window_ns=round(WINDOW_S * protocol.SECOND_NS),
            clock=time.perf_counter_ns,
        ):
            medians.append(median(window))
            calls.append(len(window))
            temperatures.append(conditions.now(probe=False).temperature_c)
    return Sustained(
        window_s=WINDOW_S, medians_ns=tuple(medians), calls=tuple(calls), temperatures_c=tuple(temperatures)
    )


def meter() -> protocol.Meter:
    """The meters of this process, all its threads together."""
    import resource

    return protocol.Meter(
        wall=time.perf_counter_ns,
        cpu=time.process_time_ns,
        switches=lambda: resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw,
    )


def profiled(job: ProfileJob) -> Profile:
    """The nanoseconds of every operator, by the engine's own profiler; raises `Unsupported` where it has none."""
    cores.bind(job.threads)
    runtime, artifact = feeding.prepared(job)
    if not isinstance(runtime, Profiling):
        raise Unsupported(f"{job.runtime} does not tell the time of operators", "try --runtime onnxruntime or torch")
    feeds = feeding.fed(runtime, artifact, feeding.real_or_noise(artifact, batch=job.batch, seed=job.seed)[1])
    found = runtime.profile(artifact, feeds, threads=job.threads, runs=PROFILE_RUNS)
    return Profile(runs=PROFILE_RUNS, operators=tuple(found))


@contextmanager
def _warm(job: EnergyJob | SustainedJob) -> Iterator[tuple[Session, Feeds]]:
    cores.bind(job.threads)
    runtime, artifact = feeding.prepared(job)
    feeds = feeding.fed(runtime, artifact, feeding.real_or_noise(artifact, batch=job.batch, seed=job.seed)[1])
    session = runtime.open(artifact, threads=job.threads)
    cap_ns = protocol.EFFORTS["quick"].warm_up_cap_ns
    protocol.warm_up(session.run, feeds, clock=time.perf_counter_ns, cap_ns=cap_ns)
    with _no_collection():
        yield session, feeds
    session.close()


@contextmanager
def _no_collection() -> Iterator[None]:
    """A collection of garbage inside a sample would be charged to the model."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _digest(feeds: Feeds) -> str:
    import hashlib

    import numpy as np

    digest = hashlib.sha256()
    for array in feeds.values():
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def answered(job: OutputsJob) -> Done:
    """Run all samples of `job.inputs`, in chunks of the artifact's batch, and save `job.outputs`."""
    import numpy as np

    from .job import Done

    runtime, artifact = feeding.prepared(job)
    with np.load(job.inputs, allow_pickle=False) as file:
        arrays = [file[name] for name in file.files]
    values = {tensor.name: array for tensor, array in zip(artifact.manifest.inputs, arrays, strict=True)}
    session = runtime.open(artifact, threads=job.threads)
    feeds = feeding.fed(runtime, artifact, values)
    answers = feeding.run_in_chunks(session, feeds, batch=feeding.fixed_batch(runtime, artifact))
    if not runtime.original:
        answers = [
            tensors.to_model(record, part) for record, part in zip(artifact.manifest.outputs, answers, strict=True)
        ]
    np.savez(job.outputs, *answers)
    return Done()


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
    # Not before: a board does the same work without pydantic.
    from pydantic import BaseModel

    from .job import JOB, EnergyJob, MemoryJob, OutputsJob, ProfileJob, Reply, SustainedJob, TimeJob

    question, reply = (Path(argument) for argument in arguments)
    child.die_with_parent()
    job = JOB.validate_json(question.read_bytes())
    work: dict[type[Any], Callable[[Any], BaseModel]] = {
        TimeJob: timed,
        MemoryJob: weighed,
        EnergyJob: powered,
        SustainedJob: sustained,
        ProfileJob: profiled,
        OutputsJob: answered,
    }
    try:
        answer = Reply[BaseModel](answer=work[type(job)](job))
    except EdgeError as error:
        answer = Reply[BaseModel](failure=Failure.of(error))
    reply.write_text(answer.model_dump_json(serialize_as_any=True))


if __name__ == "__main__":
    main(sys.argv[1:])
