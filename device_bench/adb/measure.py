"""`benchmark_model` on a phone: what it is told for a job, and what it tells, as a record of ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ...converters.artifact import Artifact
from ...converters.tflite.inspection import histogram
from ...models.errors import DeviceFailed, Unsupported
from .. import feeding
from ..benchmark_runtime import BenchmarkModelRuntime
from ..job import Measuring, MemoryJob, OutputsJob, TimeJob
from ..protocol import EFFORTS, SECOND_NS, WARM_UP_CALLS
from ..record import Conditions, Memory, Placement, Summary, Timing
from ..session import RUNTIMES
from ..tools.benchmark_model import parse
from ..tools.outcome import Outcome
from . import outputs

DEFAULT_DELEGATE: Final = "XNNPACK"
WARM_UP_S: Final = 0.5
MEMORY_RUNS: Final = 5
# Logged where the interpreter is talkative enough, a line a graph; the first is the main one.
REPLACED: Final = re.compile(
    r"Replacing ([0-9]{1,9}) out of ([0-9]{1,9}) node\(s\) with delegate \(\S+\) node, yielding ([0-9]{1,9}) partitions"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One invocation: `arguments` without those that name files."""

    job: TimeJob | MemoryJob | OutputsJob
    artifact: Artifact
    runtime: BenchmarkModelRuntime
    arguments: tuple[str, ...]


def runtimes() -> list[str]:
    """The names of what the tool can be told to run a model by; that of the tool's own choice comes first."""
    known = {name: RUNTIMES.load(name) for name in RUNTIMES.names()}
    names = [name for name, each in known.items() if isinstance(each, BenchmarkModelRuntime)]
    return sorted(names, key=lambda name: (known[name].delegate != DEFAULT_DELEGATE, name))


def work(job: Measuring | OutputsJob) -> Work:
    """What `job` means for the tool; raises `Unsupported` for what no phone can do."""
    runtime: BenchmarkModelRuntime = RUNTIMES.load(job.runtime)
    if not isinstance(job, TimeJob | MemoryJob | OutputsJob):
        raise Unsupported(f"a phone gives no {job.mode} by benchmark_model", "it gives latency, memory and outputs")
    artifact = feeding.opened(runtime, job)
    if artifact.manifest.inputs[0].shape[0] is None and not isinstance(job, OutputsJob) and job.batch != 1:
        raise Unsupported("benchmark_model runs a file of any batch with batch 1", f"convert it for batch {job.batch}")
    half = [f"{runtime.half_flag}={str(artifact.manifest.precision != 'fp32').lower()}"] if runtime.half_flag else []
    arguments = [f"--num_threads={job.threads}", *runtime.flags, *half, *_rounds(job)]
    return Work(job=job, artifact=artifact, runtime=runtime, arguments=tuple(arguments))


def _rounds(job: TimeJob | MemoryJob | OutputsJob) -> Sequence[str]:
    if isinstance(job, OutputsJob):
        return outputs.ONCE
    if isinstance(job, MemoryJob):
        return [f"--num_runs={MEMORY_RUNS}", "--min_secs=0", "--report_peak_memory_footprint=true"]
    effort = EFFORTS[job.effort]
    return [
        f"--num_runs={effort.min_samples}",
        f"--min_secs={effort.budget_ns / SECOND_NS:g}",
        f"--max_secs={effort.cap_ns / SECOND_NS:g}",
        f"--warmup_runs={WARM_UP_CALLS}",
        f"--warmup_min_secs={WARM_UP_S:g}",
    ]


def read(text: str) -> Outcome:
    """What the tool printed; raises `UnreadableOutput`, or `Unsupported` if it was told what it does not know."""
    outcome = parse(text)
    if outcome.ignored_flags:
        raise Unsupported(
            f"this benchmark_model does not know {', '.join(outcome.ignored_flags)}", "give a newer --benchmark-binary"
        )
    return outcome


def timing(done: Work, outcome: Outcome, text: str, *, binary_sha256: str, conditions: Sequence[Conditions]) -> Timing:
    """The record of a timed process; `conditions` are those before and after."""
    if outcome.init_ns is None or outcome.first_ns is None or outcome.warm_up_ns is None or outcome.warm_ups is None:
        raise DeviceFailed("benchmark_model tells neither its start nor its warm-up")
    before, after = conditions
    return Timing(
        inputs="noise",
        load_ns=round(outcome.init_ns),
        first_ns=round(outcome.first_ns),
        warm_up_ns=(round(outcome.warm_up_ns),),
        warm_up_converged=None,
        block=1,
        samples_ns=(max(1, round(outcome.percentiles_ns.get("p50", outcome.mean_ns))),),
        placement=_placement(done, outcome, text),
        before=before,
        after=after,
        summary=Summary(
            tool=outcome.tool,
            generation=outcome.generation,
            binary_sha256=binary_sha256,
            arguments=done.arguments,
            warm_ups=outcome.warm_ups,
            inferences=outcome.inferences,
            mean_ns=outcome.mean_ns,
            min_ns=outcome.min_ns,
            max_ns=outcome.max_ns,
            std_ns=outcome.std_ns,
            percentiles_ns=outcome.percentiles_ns,
        ),
    )


def memory(outcome: Outcome) -> Memory:
    """The peak of the process, and the same less what loading and running added to it; raises `Unsupported`."""
    told = outcome.memory
    if told is None or told.peak_bytes is None or told.overall_bytes is None:
        raise Unsupported("this benchmark_model does not tell its peak of memory", "give a newer --benchmark-binary")
    added = min(max(0, told.overall_bytes), told.peak_bytes)
    return Memory(before_bytes=told.peak_bytes - added, peak_bytes=told.peak_bytes)


def _placement(done: Work, outcome: Outcome, text: str) -> Placement:
    """What the delegate that was asked for took; one of which the tool does not speak took nothing."""
    nodes, wanted = sum(histogram(done.artifact.payload).values()), done.runtime.delegate
    said = next((each for each in outcome.delegations if wanted and each.delegate == wanted), None)
    if said is None or said.kernels == 0:
        return Placement(delegate=wanted, nodes_taken=0, nodes=nodes, partitions=0)
    if found := REPLACED.search(text):
        taken, of, partitions = (int(each) for each in found.groups())
        return Placement(delegate=wanted, nodes_taken=taken, nodes=of, partitions=partitions)
    return Placement(delegate=wanted, nodes_taken=nodes if said.whole else None, nodes=nodes, partitions=said.kernels)
