"""The speed table of the paper, on this machine: images a second of M0 to M5 beside published figures.

    .venv/bin/python benchmarks/paper_table.py [--models m0,m5] [--batches 1,16] [--effort default] [--out FILE.jsonl]

One thread, 224 px, random weights (speed does not depend on them), eager PyTorch and ONNX Runtime, all in turns in
interleaved rounds, each trial a fresh process. Published figures are of other hardware, which their column names: what
can be compared is the order and the ratios of models, not the figures. Where none was published there is a dash.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from evit_edge.converters.artifact import Artifact
from evit_edge.converters.conversion import plan as plan_conversion
from evit_edge.converters.convert import convert
from evit_edge.device_bench import plan, result, validity
from evit_edge.device_bench.device import connect
from evit_edge.device_bench.gate import engines
from evit_edge.device_bench.report import summary
from evit_edge.device_bench.result import Result
from evit_edge.device_bench.session import execute
from evit_edge.edge import show
from evit_edge.models.spec import ModelRequest, find

RUNTIMES: Final = ("torch", "onnxruntime")


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Images a second of some of the models in one setting, and where they stand."""

    setting: str
    source: str
    images_per_s: dict[str, float]


PUBLISHED: Final = (
    Published(
        setting="V100, fp16, batch 2048",
        source="the authors' repository",
        images_per_s={"m0": 27644, "m1": 20093, "m2": 18218, "m3": 16644, "m4": 15914, "m5": 10621},
    ),
    Published(
        setting="Intel CPU (model not named)",
        source="the authors' repository",
        images_per_s={"m0": 228.4},
    ),
    Published(
        setting="ONNX Runtime (CPU not named)",
        source="the authors' repository",
        images_per_s={"m0": 340.1},
    ),
    Published(
        setting="Xeon Gold 5218R, 1 thread, batch 16",
        source="SHViT, CVPR 2024",
        images_per_s={"m2": 147, "m4": 113, "m5": 64},
    ),
    Published(
        setting="Xeon Gold 5218R, ONNX Runtime, batch 16",
        source="SHViT, CVPR 2024",
        images_per_s={"m2": 781, "m4": 616, "m5": 456},
    ),
    Published(
        setting="i9-10940X, torch.compile, batch 1",
        source="timm's results, PyTorch 2.4",
        images_per_s={
            name: 1000 / ms
            for name, ms in {"m0": 7.39, "m1": 6.91, "m2": 7.27, "m3": 8.69, "m4": 9.45, "m5": 11.44}.items()
        },
    ),
)


def made(names: Sequence[str], folder: Path) -> list[Artifact]:
    """An ONNX file of each model that takes any batch."""
    found = []
    for name in names:
        spec = find(ModelRequest(name=f"efficientvit_{name}", weights="random"))
        conversion = plan_conversion(spec, "onnx", precision="fp32", batch=None)
        engine, check = engines(conversion)
        found.append(convert(conversion, folder, execute=execute, engine=engine, self_check=check))
    return found


def measured(artifacts: Sequence[Artifact], arguments: argparse.Namespace, batches: Sequence[int]) -> list[Result]:
    wanted = plan.Plan(
        cells=plan.cells(artifacts, runtimes=RUNTIMES, batches=batches),
        effort=arguments.effort,
        seed=arguments.seed,
        command=["benchmarks/paper_table.py", *sys.argv[1:]],
    )
    with show.counting(False, plan.least_processes(wanted)) as advance:
        return plan.run(wanted, connect("local"), on_step=lambda step: advance(step.label))


def cell(found: Sequence[Result], name: str, runtime: str, batch: int) -> str:
    """Images a second with the interval, and what speaks against it."""
    one = next(each for each in found if each.model.endswith(name) and (each.runtime, each.batch) == (runtime, batch))
    (row,) = summary.rows([one])
    if row.images_per_s is None:
        return row.reason
    span = ""
    if row.latency_low_ms and row.latency_high_ms:
        span = f" [{1e3 * batch / row.latency_high_ms:.0f}, {1e3 * batch / row.latency_low_ms:.0f}]"
    level = validity.judge(one).level
    return f"{row.images_per_s:.0f}{span}{'' if level == 'VALID' else f' {level}'}"


def table(found: Sequence[Result], names: Sequence[str], batches: Sequence[int]) -> None:
    device = found[0].device
    print(f"images/s [95 %] on {device.cpu}, one thread, {found[0].started:%Y-%m-%d}, effort {found[0].effort}\n")
    settings = [(runtime, batch) for batch in batches for runtime in RUNTIMES]
    heads = [f"{runtime}, batch {batch}" for runtime, batch in settings]
    heads += [f"{each.setting} ({each.source})" for each in PUBLISHED]
    print(f"| model | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 1)}")
    for name in names:
        here = [cell(found, name, runtime, batch) for runtime, batch in settings]
        there = [f"{each.images_per_s[name]:.0f}" if name in each.images_per_s else "—" for each in PUBLISHED]
        print(f"| {name.upper()} | {' | '.join([*here, *there])} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="m0,m1,m2,m3,m4,m5")
    parser.add_argument("--batches", default="1,16")
    parser.add_argument("--effort", default="default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="Raw results are added to this file.")
    arguments = parser.parse_args()
    names, batches = arguments.models.split(","), [int(part) for part in arguments.batches.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        found = measured(made(names, Path(folder)), arguments, batches)
    for each in found if arguments.out else ():
        result.append(arguments.out, each)
    table(found, names, batches)


if __name__ == "__main__":
    main()
