"""A trace says at which operator rounding costs: figures by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from evit_edge.converters.coreml import program as programs
from evit_edge.converters.coreml.program import Program
from evit_edge.converters.coreml.trace import Step, trace

from . import mil
from .calling import float32


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Adding 2048 costs what is below one; the other operators cost nothing more."""

    def function(mb: Any, x: Any) -> Any:
        y = mb.add(x=x, y=np.float32(2048), name="added")
        signs = mb.cast(x=mb.sign(x=y, name="signs"), dtype="int32", name="counted")
        return mb.relu(x=y, name="kept"), mb.mul(x=y, y=np.float32(0), name="nothing"), signs

    return programs.load(mil.program(function, {"x": (2,)}, "iOS15", "FLOAT16", tmp_path_factory.mktemp("trace")))


def steps(program: Program, *values: list[float]) -> dict[str, Step]:
    found = trace(program, ({"x": float32(each)} for each in values))
    order = [name for operation in program.operations for name in operation.outputs]
    assert [step.name for step in found] == [name for name in order if name in {step.name for step in found}]
    return {step.name.removesuffix("_cast_fp16"): step for step in found}


def test_figures_are_those_of_the_definitions(program: Program) -> None:
    found = steps(program, [0.25, 2.0], [4.0, -0.5])
    added = found["added"]
    # In float16 numbers from 2048 on are two apart, and below it one: 2048.25 and 2047.5 are 2048.
    signal = 2048.25**2 + 2050**2 + 2052**2 + 2047.5**2
    decibels = 10 * math.log10(signal / (0.25**2 + 0.5**2))
    assert (added.kind, added.dtype, added.largest, added.finite) == ("add", "float16", 2052, True)
    assert added.sqnr_db == pytest.approx(decibels, abs=1e-3)
    # What it reads was exact.
    assert added.lost_db == math.inf
    assert (found["kept"].sqnr_db, found["kept"].lost_db) == (added.sqnr_db, 0)
    assert found["signs"].sqnr_db == math.inf
    assert found["signs"].lost_db == -math.inf
    assert "counted" not in found


def test_what_is_exact_loses_nothing(program: Program) -> None:
    for step in steps(program, [2, 4]).values():
        assert (step.sqnr_db, step.lost_db, step.finite) == (math.inf, 0, True)
    assert steps(program, [2, 4])["nothing"].largest == 0


def test_an_overflow_is_not_finite_and_loses_everything(program: Program) -> None:
    found = steps(program, [65_000, 1], [0, 0])
    assert (found["added"].finite, found["added"].sqnr_db, found["added"].lost_db) == (False, -math.inf, math.inf)
    assert found["added"].largest == 67_048
    assert (found["kept"].finite, found["kept"].lost_db) == (False, 0)


def test_no_sample_has_no_steps(program: Program) -> None:
    assert trace(program, []) == []
