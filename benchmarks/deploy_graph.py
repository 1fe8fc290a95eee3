"""What the deploy graph gains over a plain export, side by side, in ONNX Runtime.

    .venv/bin/python benchmarks/deploy_graph.py [--models m0,m5] [--rounds 15]

Every model gets random weights (BatchNorm statistics too, seed fixed) and is exported twice with
`torch.onnx.export(dynamo=True)`: as it is (naive) and through `deploy`. Printed for each model:

- nodes: in the file, after ONNX Runtime's basic optimisation, and after all of it;
- latency at batch 1 with one intra-op thread and all optimisation. A round is a fresh process that opens both
  files, in random order, and times them in turns: short blocks of calls, naive and deploy alternating, so that
  both meet the same state of a shared machine. Its ratio is that of the two medians. The line gives the median
  ratio over the rounds with its quartiles and its extremes, and the median milliseconds of both. Rounds differ
  by where memory happens to lie: more of them narrow that, more calls in one do not.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

VARIANTS = ("naive", "deploy")
BLOCK = 5


def export_variants(name: str, folder: Path) -> dict[str, Path]:
    import torch
    from torch import nn

    from evit_edge.models.deploy import deploy
    from evit_edge.models.efficientvit import CONFIGS, CascadedGroupAttention, EfficientViT

    torch.manual_seed(0)
    eager = EfficientViT(CONFIGS[f"efficientvit_{name}"]).eval()
    for module in eager.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.running_mean = torch.randn(module.num_features) * 0.2
            module.running_var = torch.rand(module.num_features) + 0.5
        elif isinstance(module, CascadedGroupAttention):
            nn.init.normal_(module.attention_biases, std=0.5)
    # torch's exporter copies a pytree through an API that torch itself has deprecated.
    warnings.filterwarnings("ignore", category=FutureWarning)
    paths = {variant: folder / f"{name}_{variant}.onnx" for variant in VARIANTS}
    for module, path in zip((eager, deploy(eager)), paths.values(), strict=True):
        image = torch.zeros(1, 3, eager.img_size, eager.img_size)
        torch.onnx.export(module, (image,), str(path), dynamo=True, verbose=False, external_data=False)
    return paths


def open_session(path: Path, level: Any, *, written: Path | None = None) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.graph_optimization_level = level
    options.log_severity_level = 3
    if written is not None:
        options.optimized_model_filepath = str(written)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def count_nodes(path: Path) -> list[int]:
    import onnx

    levels = ort.GraphOptimizationLevel
    files = [path]
    for level in (levels.ORT_ENABLE_BASIC, levels.ORT_ENABLE_ALL):
        files.append(path.with_suffix(f".{len(files)}.onnx"))
        open_session(path, level, written=files[-1])
    return [len(onnx.load(file).graph.node) for file in files]


def measure(paths: list[Path], seconds: float) -> list[float]:
    """The median milliseconds of a call of each file, in this process, in turns of `BLOCK` calls."""
    order = random.sample(range(len(paths)), len(paths))
    level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    sessions = {index: open_session(paths[index], level) for index in order}
    image = sessions[0].get_inputs()[0]
    feeds = {image.name: np.random.default_rng(0).standard_normal(image.shape, dtype=np.float32)}
    runs_ns: list[list[int]] = [[] for _ in paths]
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        for index in order:
            sessions[index].run(None, feeds)  # brings its weights back into the cache
            for _ in range(BLOCK):
                before = time.perf_counter_ns()
                sessions[index].run(None, feeds)
                runs_ns[index].append(time.perf_counter_ns() - before)
    return [statistics.median(runs[len(runs) // 5 :]) / 1e6 for runs in runs_ns]


def trial(paths: list[Path], seconds: float) -> list[float]:
    command = [sys.executable, __file__, "--seconds", str(seconds), "--measure", *map(str, paths)]
    return [float(word) for word in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]


def compare(name: str, folder: Path, *, rounds: int, seconds: float) -> None:
    paths = export_variants(name, folder)
    for variant, path in paths.items():
        print(f"{name} {variant:6}  nodes: file {{}}, basic {{}}, all {{}}".format(*count_nodes(path)), flush=True)
    times = [trial(list(paths.values()), seconds) for _ in range(rounds)]
    ratios = [lean / naive for naive, lean in times]
    low, median, high = statistics.quantiles(ratios, n=4)
    medians = [statistics.median(values) for values in zip(*times, strict=True)]
    print(
        f"{name} deploy/naive  {median:.3f} (quartiles {low:.3f}..{high:.3f}, "
        f"all {min(ratios):.3f}..{max(ratios):.3f}, {rounds} rounds)  "
        + "  ".join(f"{variant} {value:.3f} ms" for variant, value in zip(VARIANTS, medians, strict=True)),
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="m0,m5", help="comma-separated, of m0 to m5")
    parser.add_argument("--rounds", type=int, default=15, help="at least 2")
    parser.add_argument("--seconds", type=float, default=3.0, help="of one round")
    parser.add_argument("--measure", type=Path, nargs=len(VARIANTS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(*measure(arguments.measure, arguments.seconds))
        return
    if arguments.rounds < 2:
        parser.error("--rounds must be at least 2")
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.models.split(","):
            compare(name, Path(folder), rounds=arguments.rounds, seconds=arguments.seconds)


if __name__ == "__main__":
    main()
