"""Comparisons with something of everything, from random numbers."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from functools import cache
from itertools import product
from typing import Any

from evit_edge.device_bench.accuracy import Share, wilson
from evit_edge.device_bench.record import Energy, Failure, Memory, Placement, Sustained, Timing
from evit_edge.device_bench.report import page, summary
from evit_edge.device_bench.report.accuracy_file import Accuracies
from evit_edge.device_bench.result import Parity, Result, Trial

from ..conftest import DEVICE

# target, precision, runtime, milliseconds on one thread, bytes, deviation between processes
FILES = (
    (None, "fp32", "torch", 21.0, None, 0.01),
    ("onnx", "fp32", "onnxruntime", 9.0, 9_400_000, 0.01),
    ("onnx", "int8", "onnxruntime", 8.9, 2_600_000, 0.02),
    ("tflite", "fp32", "litert", 8.0, 9_300_000, 0.006),
    ("tflite", "int8", "litert", 5.5, 2_700_000, 0.05),
    ("tflite", "int8", "tflite", 6.5, 2_700_000, 0.3),
)


def comparison(number: int = 0, **changes: Any) -> list[Result]:
    """One session: six files on one and two threads with batches of one and four, and one more that failed.

    `number` is the seed of the figures, `changes` are of each result.
    """
    chance = random.Random(number)
    cells = product(FILES, (1, 2), (1, 4))
    found = [_result(chance, file, threads=threads, batch=batch, changes=changes) for file, threads, batch in cells]
    failure = Failure(kind="DeviceFailed", message="litert was killed by SIGILL", hint="")
    failed = found[-1].model_copy(update={"precision": "fp16", "trials": (), "memory": None, "failure": failure})
    return [*found, failed]


@cache
def shown() -> str:
    """`comparison` as a page, with an accuracy of every file."""
    results = comparison()
    shares: dict[tuple[str, str | None], Share] = {
        (result.artifact_digest or result.model_digest, None): wilson(97 - place % 7, 100)
        for place, result in enumerate(results)
    }
    return page.render(results, summary.rows(results, accuracies=[Accuracies(shares=shares)]))


def _result(
    chance: random.Random, file: tuple[Any, ...], *, threads: int, batch: int, changes: dict[str, Any]
) -> Result:
    target, precision, runtime, milliseconds, size, deviation = file
    typical = 1e6 * milliseconds * batch**0.95 / threads**0.8
    taken = 4 if precision == "int8" else 9
    placement = Placement(delegate="XNNPACK", nodes_taken=taken, nodes=10, partitions=1) if target == "tflite" else None
    trials = [_trial(chance, number, typical * chance.gauss(1, deviation), placement) for number in range(8)]
    known: dict[str, Any] = {
        "session": "0f" * 16,
        "started": datetime(2025, 1, 2, tzinfo=UTC),
        "command": ("evit-edge", "bench", "some folder", "--threads", "1,2", "--batch", "1,4"),
        "seed": 0,
        "effort": "default",
        "device": DEVICE,
        "model": "linear",
        "weights": "seeded",
        "model_digest": "2" * 64,
        "target": target,
        "precision": precision,
        "artifact_digest": f"{FILES.index(file):064d}" if target else None,
        "size_bytes": size,
        "parity": Parity(engine=runtime, passed=True, cosine=0.9999, top1=0.98) if target else None,
        "runtime": runtime,
        "threads": threads,
        "batch": batch,
        "trials": tuple(trials),
        "memory": Memory(before_bytes=60 * 2**20, peak_bytes=int(100 * 2**20 + (size or 2e8))),
        "energy": Energy(source="RAPL package-0", inferences=10, joules=(0.5, 0.6, 0.55), idle_watts=3.0),
        "sustained": Sustained(
            window_s=10, medians_ns=(typical,) * 12 + (1.2 * typical,) * 6, calls=(9,) * 18, temperatures_c=(50,) * 18
        ),
        "failure": None,
    }
    return Result(**known | changes)


def _trial(chance: random.Random, number: int, typical: float, placement: Placement | None) -> Trial:
    samples = [int(typical * (1 + abs(chance.gauss(0, 0.01)))) for _ in range(100)]
    disturbed = [chance.random() < 0.03 for _ in samples]
    timing = Timing(
        inputs="noise",
        load_ns=30_000_000,
        first_ns=int(3 * typical),
        warm_up_ns=(int(2 * typical), int(typical)),
        warm_up_converged=True,
        block=1,
        samples_ns=tuple(2 * ns if hit else ns for ns, hit in zip(samples, disturbed, strict=True)),
        cpu_ns=tuple(samples),
        switches=tuple(map(int, disturbed)),
        placement=placement,
    )
    return Trial(round=number, order=0, timing=timing)
