"""What the timed loop costs: its time per call over that of a bare loop around the same ONNX Runtime session.

Both loops, and the bare loop a second time (A/A: what this machine calls equal), take turns in random order in
one process; a ratio is the median over all turns. The bar is 1 %. Run: python benchmarks/harness_overhead.py
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from evit_edge.device_bench.protocol import Effort, block_size, sample, warm_up
from evit_edge.device_bench.run_onnxruntime import OnnxRuntimeSession
from evit_edge.device_bench.session import Feeds
from evit_edge.device_bench.trial import meter

Loop = Callable[[int], object]

BAR = 1.01
SAMPLES_PER_TURN = 12


def session_of(width: int, layers: int, *, folder: Path) -> OnnxRuntimeSession:
    """`layers` square matrix products of `width`, each with a ReLU, on one thread."""
    weights = np.random.default_rng(0).standard_normal((width, width)).astype(np.float32) / width
    nodes = []
    for layer in range(layers):
        nodes.append(helper.make_node("MatMul", [f"x{layer}", "weights"], [f"y{layer}"]))
        nodes.append(helper.make_node("Relu", [f"y{layer}"], [f"x{layer + 1}"]))
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, (width, width))],
        [helper.make_tensor_value_info(f"x{layers}", TensorProto.FLOAT, (width, width))],
        [numpy_helper.from_array(weights, "weights")],
    )
    path = folder / f"chain_{width}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return OnnxRuntimeSession(
        ort.InferenceSession(path, sess_options=options, providers=["CPUExecutionProvider"]), [f"x{layers}"]
    )


def per_call(loop: Loop, calls: int) -> float:
    """Nanoseconds per call of `loop`, from outside."""
    start = time.perf_counter_ns()
    loop(calls)
    return (time.perf_counter_ns() - start) / calls


def bare(session: OnnxRuntimeSession, feeds: Feeds) -> Loop:
    def loop(calls: int) -> None:
        for _ in range(calls):
            session.run(feeds)

    return loop


def timed(session: OnnxRuntimeSession, feeds: Feeds, *, block: int) -> Loop:
    def loop(calls: int) -> None:
        effort = Effort(
            name="overhead",
            processes=1,
            most_processes=1,
            half_width=1.0,
            cap_s=1.0,
            budget_ns=0,
            min_samples=calls // block,
            cap_ns=10**12,
            warm_up_cap_ns=0,
        )
        sample(session.run, feeds, block=block, effort=effort, meter=meter())

    return loop


def compare(loops: Sequence[Loop], *, calls: int, turns: int, seed: int) -> list[list[float]]:
    """Nanoseconds per call of each loop, turn by turn, in random order within a turn."""
    rng = random.Random(seed)
    found: list[list[float]] = [[] for _ in loops]
    for _ in range(turns):
        for index in rng.sample(range(len(loops)), len(loops)):
            found[index].append(per_call(loops[index], calls))
    return found


def ratio(times: Sequence[float], reference: Sequence[float]) -> float:
    """The median over turns of one loop's time over another's in the same turn: a slow minute slows both."""
    return median(ours / theirs for ours, theirs in zip(times, reference, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print("| ms per call, bare | block | timed / bare | bare / bare (A/A) | bar 1.01 |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for width, layers in ((256, 4), (64, 4)):
            session = session_of(width, layers, folder=Path(folder))
            feeds = {"x0": np.ones((width, width), np.float32)}
            block = block_size(median(warm_up(session.run, feeds, clock=time.perf_counter_ns, cap_ns=10**9).calls_ns))
            loops = (bare(session, feeds), timed(session, feeds, block=block), bare(session, feeds))
            first, harness, again = compare(
                loops, calls=SAMPLES_PER_TURN * block, turns=arguments.turns, seed=arguments.seed
            )
            cost, noise = ratio(harness, first), ratio(again, first)
            verdict = "met" if cost < BAR else "missed"
            print(f"| {median(first) / 1e6:.3f} | {block} | {cost:.4f} | {noise:.4f} | {verdict} |")


if __name__ == "__main__":
    main()
