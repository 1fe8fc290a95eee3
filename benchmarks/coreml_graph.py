"""What each form of a model becomes in a Core ML program: operators, counted by kind.

    .venv/bin/python benchmarks/coreml_graph.py [--models m0,m5] [--size 224]

Every model gets random weights and is converted by coremltools at batch 1 and in float16 three times: as it is
(plain), through `deploy` for batch 1, and through `deploy_channels`. Constants are not counted. `moves` are the
operators that compute nothing: reshape, transpose, split and concat; `/ plain` is their number over that of the
plain model. Nothing is run: counts say nothing of the time that a device takes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from evit_edge.converters.coreml.writer import Form, write
from evit_edge.models.spec import ModelRequest, find

MOVES = ("reshape", "transpose", "split", "concat")
COLUMNS = ("total", "conv", "matmul, linear", *MOVES, "moves", "/ plain")


def operators(module: nn.Module, size: int) -> Counter[str]:
    """The program's operators by kind."""
    form = Form(target="iOS16", shape=(3, size, size), inputs=["image"], outputs=["logits"], half=True)
    main: Any = write(module, form).get_spec().mlProgram.functions["main"]
    (block,) = main.block_specializations.values()
    return Counter(operation.type for operation in block.operations if operation.type != "const")


def count_variants(name: str, size: int) -> dict[str, Counter[str]]:
    spec = find(ModelRequest(name=f"efficientvit_{name}", weights="random", img_size=size))
    plain = spec.build()
    variants = {"plain": plain, "deploy": spec.deploy(plain, 1), "channels": spec.deploy_channels(plain)}
    return {variant: operators(module, size) for variant, module in variants.items()}


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """No progress bars."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
        yield


def row(counts: Counter[str], plain: Counter[str]) -> list[str]:
    moves, moves_plain = (sum(counted[kind] for kind in MOVES) for counted in (counts, plain))
    products = counts["matmul"] + counts["linear"]
    numbers = [counts.total(), counts["conv"], products, *(counts[kind] for kind in MOVES), moves]
    return [*map(str, numbers), f"{moves / moves_plain:.3f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="m0,m5", help="comma-separated, of m0 to m5")
    parser.add_argument("--size", type=int, default=224, help="of the image, in pixels")
    arguments = parser.parse_args()
    print(f"{'':12}", *(f"{column:>{max(len(column), 9)}}" for column in COLUMNS))
    for name in arguments.models.split(","):
        with silence():
            variants = count_variants(name, arguments.size)
        for variant, counts in variants.items():
            cells = zip(COLUMNS, row(counts, variants["plain"]), strict=True)
            print(f"{name} {variant:9}", *(f"{cell:>{max(len(column), 9)}}" for column, cell in cells), flush=True)


if __name__ == "__main__":
    main()
