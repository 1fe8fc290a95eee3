"""What measuring does to what is measured: the clock's share of a sample, monitored against bare latency, peak memory.

(a) How long a sample of nothing takes, as a share of 1 ms. (b) Latency as the engine takes it, with CPU time and
context switches read beside each sample, over that of a bare timed loop: in turns of a few samples within a process,
and as a whole trial, with conditions before and after, against a fresh process with nothing of that. (c) Peak memory
as the memory pass reports it over what the kernel counts for a process (`ru_maxrss` of `wait4`) that does the same and
looks at nothing. Beside (b) and (c) stands bare against bare (A/A), which is what this machine calls equal. All take
turns in random order; a ratio is the median of those within processes or rounds, with its exact 95 % interval.
Run: python benchmarks/observer_effect.py
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from operator import truediv
from pathlib import Path
from statistics import median

from evit_edge.device_bench import protocol
from evit_edge.device_bench.device import connect
from evit_edge.device_bench.job import MemoryJob, TimeJob, ask
from evit_edge.device_bench.record import Memory, Timing
from evit_edge.device_bench.session import RUNTIMES, Feeds, Runtime, Session
from evit_edge.device_bench.statistics import median_interval

RUNTIME = "onnxruntime"
EFFORT = protocol.EFFORTS["quick"]
MILLISECOND_NS = 1e6
CLOCK_BAR, LATENCY_BAR, MEMORY_BAR = 0.001, 0.01, 0.05
MEMORY_RUNS = 5
TURNS, SAMPLES_PER_TURN = 150, 3
TIMEOUT_S = 120.0

Take = Callable[[Path], dict[str, float]]


def opened(folder: Path, *, images: bool) -> tuple[Session, Feeds]:
    """A session as a trial opens it, and the same input: an image, or noise where reading images would take memory."""
    import numpy as np

    from evit_edge.converters import golden, tensors
    from evit_edge.converters.artifact import read
    from evit_edge.device_bench import cores

    cores.bind(1)
    runtime: Runtime = RUNTIMES.load(RUNTIME)
    artifact = read(folder)
    if images:
        values = {name: array[:1] for name, array in golden.feeds(artifact)[golden.IMAGES].items()}
    else:
        rng = np.random.default_rng(0)
        shapes = {record.name: tensors.model_shape(record) for record in artifact.manifest.inputs}
        values = {
            name: rng.standard_normal([size or 1 for size in shape], np.float32) for name, shape in shapes.items()
        }
    feeds = {record.name: tensors.to_file(record, values[record.name]) for record in artifact.manifest.inputs}
    return runtime.open(artifact, threads=1), feeds


def bare_latency(folder: Path) -> dict[str, float]:
    """In a child: as many samples as the engine takes, with nothing but the wall clock."""
    session, feeds = opened(folder, images=True)
    block = settled(session, feeds)
    begin = time.perf_counter_ns()
    samples: list[int] = []
    while time.perf_counter_ns() - begin < EFFORT.budget_ns or len(samples) < EFFORT.min_samples:
        samples += bare_samples(session, feeds, block=block, count=1)
    return {"median": median(samples) / block, "min": min(samples) / block}


def turns(folder: Path) -> dict[str, float]:
    """In a child: monitored over bare, and bare over bare, taking turns of a few samples on one session."""
    from evit_edge.device_bench.trial import meter

    session, feeds = opened(folder, images=True)
    block, meters = settled(session, feeds), meter()
    few = replace(EFFORT, budget_ns=0, min_samples=SAMPLES_PER_TURN)
    bare = partial(bare_samples, session, feeds, block=block, count=SAMPLES_PER_TURN)
    takes: Sequence[Callable[[], list[int]]] = (
        bare,
        lambda: protocol.sample(session.run, feeds, block=block, effort=few, meter=meters).wall_ns,
        bare,
    )
    rng = random.Random(os.getpid())
    found: list[list[float]] = [[], [], []]
    for _ in range(TURNS):
        for index in rng.sample(range(3), 3):
            found[index].append(median(takes[index]()))
    engine, again = (median(map(truediv, column, found[0])) for column in found[1:])
    return {"engine": engine, "again": again}


def settled(session: Session, feeds: Feeds) -> int:
    """Warm up without a collection of garbage from now on; how many calls make a sample."""
    gc.collect()
    gc.disable()
    warm = protocol.warm_up(session.run, feeds, clock=time.perf_counter_ns, cap_ns=EFFORT.warm_up_cap_ns)
    return protocol.block_size(median(warm.calls_ns))


def bare_samples(session: Session, feeds: Feeds, *, block: int, count: int) -> list[int]:
    samples, clock = list[int](), time.perf_counter_ns
    for _ in range(count):
        start = clock()
        for _ in range(block):
            session.run(feeds)
        samples.append(clock() - start)
    return samples


def bare_memory(folder: Path) -> dict[str, float]:
    """Load and run, in a child, and look at nothing: the kernel counts."""
    session, feeds = opened(folder, images=False)
    for _ in range(MEMORY_RUNS):
        session.run(feeds)
    session.close()
    return {}


CHILDREN: dict[str, Take] = {"latency": bare_latency, "turns": turns, "memory": bare_memory}


def in_child(kind: str) -> Take:
    def take(folder: Path) -> dict[str, float]:
        with tempfile.TemporaryFile("w+") as out:
            command = [sys.executable, str(Path(__file__).resolve()), "--child", kind, "--artifact", str(folder)]
            process = subprocess.Popen(command, stdout=out)
            # Not `wait`: only this call hands over what the kernel counted for this one child.
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise SystemExit(f"the child ended with {process.returncode}")
            out.seek(0)
            return {"peak": usage.ru_maxrss * 1024.0, **json.load(out)}

    return take


def engine_latency(folder: Path) -> dict[str, float]:
    job = TimeJob(artifact=str(folder), runtime=RUNTIME, threads=1, batch=1, seed=0, effort=EFFORT.name)
    timing = ask(connect("local"), job, answer=Timing, timeout_s=TIMEOUT_S)
    return {"median": median(timing.samples_ns) / timing.block, "min": min(timing.samples_ns) / timing.block}


def engine_memory(folder: Path) -> dict[str, float]:
    job = MemoryJob(artifact=str(folder), runtime=RUNTIME, threads=1, batch=1, seed=0)
    return {"peak": float(ask(connect("local"), job, answer=Memory, timeout_s=TIMEOUT_S).peak_bytes)}


def interleaved(takes: Sequence[Take], folder: Path, *, rounds: int, seed: int) -> list[list[dict[str, float]]]:
    """The figures of each, round by round, in a random order within a round."""
    rng = random.Random(seed)
    found: list[list[dict[str, float]]] = [[] for _ in takes]
    for _ in range(rounds):
        for index in rng.sample(range(len(takes)), len(takes)):
            found[index].append(takes[index](folder))
    return found


def ratios(over: Sequence[dict[str, float]], under: Sequence[dict[str, float]], figure: str) -> list[float]:
    return [above[figure] / below[figure] for above, below in zip(over, under, strict=True)]


def row(what: str, engine: Sequence[float], again: Sequence[float], *, bar: float) -> str:
    """The engine's ratios, and beside them those of bare to bare; the bar is open where the interval crosses it."""
    interval = median_interval(engine)
    ends = (interval.low, interval.high) if interval else (median(engine),)
    within = [abs(end - 1) < bar for end in ends]
    verdict = "met" if all(within) else "open" if any(within) or min(ends) < 1 < max(ends) else "missed"
    return f"| {what} | {shown(engine)} | {shown(again)} | 1 ± {bar:g} | {verdict} |"


def shown(found: Sequence[float]) -> str:
    interval = median_interval(found)
    return f"{median(found):.4f}" + (f" [{interval.low:.4f}, {interval.high:.4f}]" if interval else "")


def clock_rows() -> list[str]:
    """What two readings of the clock and an empty call take, and what is read between samples, outside of them."""
    from evit_edge.device_bench.trial import meter

    def nothing(feeds: None) -> None:
        pass

    meters, begin = meter(), time.perf_counter_ns()
    samples = protocol.sample(nothing, None, block=1, effort=EFFORT, meter=meters)
    each = (time.perf_counter_ns() - begin) / len(samples.wall_ns)
    inside = median(samples.wall_ns)
    verdict = "met" if inside / MILLISECOND_NS < CLOCK_BAR else "missed"
    return [
        f"| inside a sample, {inside:.0f} ns of 1 ms | {inside / MILLISECOND_NS:.5f} | | < {CLOCK_BAR:g} | {verdict} |",
        f"| between samples, {each - inside:.0f} ns for 1 ms | {(each - inside) / MILLISECOND_NS:.5f} | | | |",
    ]


def converted(folder: Path) -> Path:
    command = [sys.executable, "-m", "evit_edge", "convert", "efficientvit_m0", "--weights", "demo", "--target", "onnx"]
    subprocess.run([*command, "--out", str(folder)], check=True, stdout=subprocess.DEVNULL)
    return folder / "efficientvit_m0-demo-224px-onnx-fp32"


def report(folder: Path, *, rounds: int, seed: int) -> None:
    print("| what | ratio [95 %] | bare / bare (A/A) | bar | |\n|---|---|---|---|---|")
    print("\n".join(clock_rows()), flush=True)
    within = [in_child("turns")(folder) for _ in range(rounds)]
    engine, again = ([each[kind] for each in within] for kind in ("engine", "again"))
    print(row("latency, in turns within a process", engine, again, bar=LATENCY_BAR), flush=True)
    for passed, bar, count, take, kinds in (
        ("latency", LATENCY_BAR, rounds, engine_latency, ("median", "min")),
        ("memory", MEMORY_BAR, max(1, rounds // 4), engine_memory, ("peak",)),
    ):
        bare, engine_found, bare_again = interleaved(
            (in_child(passed), take, in_child(passed)), folder, rounds=count, seed=seed
        )
        for kind in kinds:
            engine, again = (ratios(column, bare, kind) for column in (engine_found, bare_again))
            print(row(f"{passed}, {kind} of a process", engine, again, bar=bar), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifact", type=Path, help="an ONNX artifact; efficientvit_m0's demo if not given")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", choices=sorted(CHILDREN), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(CHILDREN[arguments.child](arguments.artifact)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.artifact or converted(Path(scratch))
        report(folder, rounds=arguments.rounds, seed=arguments.seed)


if __name__ == "__main__":
    main()
