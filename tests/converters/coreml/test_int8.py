"""What the integers of an int8 package stand for: scales and zero points in the saved file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from evit_edge.converters.conversion import CONVERTERS
from evit_edge.converters.coreml.executor import Executor
from evit_edge.converters.coreml.program import Program, load
from evit_edge.models.spec import ModelSpec

from . import tiny


def grids(program: Program) -> Iterator[tuple[str, str, float, int]]:
    """The kind of operator that is rounded, and the dtype, scale and zero point of its integers."""
    executor = Executor(program)
    makers = {name: operation for operation in program.operations for name in operation.outputs}
    for operation in program.operations:
        if operation.kind == "quantize":
            zeros = operation.inputs.get("zero_point")
            yield (
                makers[operation.inputs["input"][0]].kind,
                str(executor.constant(operation.inputs["output_dtype"][0])),
                float(executor.constant(operation.inputs["scale"][0])),
                int(executor.constant(zeros[0])) if zeros else 0,
            )


def quantized(of: ModelSpec, folder: Path) -> Program:
    path = folder / "model.mlpackage"
    CONVERTERS.load("coreml").convert(of.build(), tiny.planned("int8", of=of), path)
    return load(path)


@pytest.mark.parametrize("gain", [1, 1000])
def test_what_is_never_negative_has_all_256_integers(gain: int, tmp_path: Path) -> None:
    found = list(grids(quantized(tiny.spec(lambda: tiny.Network(gain)), tmp_path)))
    assert {(dtype, zero) for kind, dtype, _, zero in found if kind == "relu"} == {("uint8", 0)}
    assert {(dtype, zero) for kind, dtype, _, zero in found if kind == "cast"} == {("int8", 0)}
    assert all(np.isfinite(scale) and scale > 0 for _, _, scale, _ in found)


def test_a_value_that_is_always_zero_stays_zero(tmp_path: Path) -> None:
    def silent() -> tiny.Network:
        network = tiny.Network()
        for parameter in network.wide.parameters():
            parameter.data.zero_()
        return network

    spec = tiny.spec(silent)
    program = quantized(spec, tmp_path)
    assert all(scale > 0 for _, _, scale, _ in grids(program))
    logits = Executor(program).run({"image": tiny.images(spec, 1)})["logits"].numpy()
    assert np.isfinite(logits).all()
