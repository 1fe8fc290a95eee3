"""What the reference executor costs: its time an image over that of eager PyTorch, and its memory.

    .venv/bin/python benchmarks/coreml_executor.py [--models efficientvit_m0] [--images 16] [--turns 10]

Each model gets random weights and becomes an fp16 package at 224 px. Eager PyTorch, the executor without rounding, with
rounding, and with rounding a second time (A/A) take turns in random order in one process, one thread, one image at a
call; a figure is the median over turns, the ratio is the median of the ratios within a turn. Memory is the peak of a
fresh process that loads the package and runs it, and of one that only imports.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from os import devnull
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evit_edge.converters.coreml import metadata
from evit_edge.converters.coreml.executor import Executor
from evit_edge.converters.coreml.program import load
from evit_edge.converters.coreml.writer import Form, write
from evit_edge.models.spec import ModelRequest, find

SIZE = 224
PEAK = """
import resource, sys
from pathlib import Path
import numpy as np, torch
from evit_edge.converters.coreml.executor import Executor
from evit_edge.converters.coreml.program import load
if len(sys.argv) > 1:
    executor = Executor(load(Path(sys.argv[1])))
    for _ in range(3):
        executor.run({"image": np.zeros((1, 3, 224, 224), np.float32)})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""

Run = Callable[[NDArray[np.float32]], Any]


def runs(name: str, folder: Path) -> dict[str, Run]:
    spec = find(ModelRequest(name=name, weights="random", img_size=SIZE))
    eager = spec.build()
    path = folder / f"{name}.mlpackage"
    form = Form(target="iOS15", shape=(3, SIZE, SIZE), inputs=["image"], outputs=["logits"], half=True)
    with Path(devnull).open("w") as nowhere, redirect_stderr(nowhere):
        metadata.save(write(spec.deploy_channels(eager), form), path)
    exact, rounding = (Executor(load(path), rounding=flag) for flag in (False, True))

    def ask(image: NDArray[np.float32]) -> None:
        with torch.inference_mode():
            eager(torch.from_numpy(image))

    rounded: Run = lambda image: rounding.run({"image": image})  # noqa: E731
    return {
        "eager": ask,
        "not rounded": lambda image: exact.run({"image": image}),
        "rounded": rounded,
        "rounded again": rounded,
    }


def turn(run: Run, images: NDArray[np.float32]) -> float:
    """Milliseconds an image."""
    start = time.perf_counter()
    for image in images:
        run(image[None])
    return (time.perf_counter() - start) * 1e3 / len(images)


def peak_mb(*arguments: str) -> int:
    done = subprocess.run([sys.executable, "-c", PEAK, *arguments], check=True, capture_output=True, text=True)
    return int(done.stdout)


def measure(name: str, folder: Path, *, images: int, turns: int) -> None:
    found = runs(name, folder)
    rng = random.Random(0)
    samples = np.random.default_rng(0).standard_normal((images, 3, SIZE, SIZE), np.float32)
    for run in found.values():
        turn(run, samples[:2])
    times: dict[str, list[float]] = {kind: [] for kind in found}
    for _ in range(turns):
        for kind in rng.sample(list(found), len(found)):
            times[kind].append(turn(found[kind], samples))
    for kind, values in times.items():
        ratio = median(value / eager for value, eager in zip(values, times["eager"], strict=True))
        print(f"{name}  {kind:14} {median(values):8.1f} ms an image  {ratio:6.2f} × eager")
    again = median(b / a for a, b in zip(times["rounded"], times["rounded again"], strict=True))
    print(
        f"{name}  A/A {again:.3f}; peak memory {peak_mb(str(folder / name) + '.mlpackage')} MB, imports {peak_mb()} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="efficientvit_m0", help="comma-separated")
    parser.add_argument("--images", type=int, default=16, help="a turn")
    parser.add_argument("--turns", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.models.split(","):
            measure(name, Path(folder), images=arguments.images, turns=arguments.turns)


if __name__ == "__main__":
    main()
