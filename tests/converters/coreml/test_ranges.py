"""How large values become: over all feeds, of every float, as the program means them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from evit_edge.converters.coreml import program as programs
from evit_edge.converters.coreml.program import Program
from evit_edge.converters.coreml.ranges import measure

from . import mil
from .calling import float32


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    def function(mb: Any, x: Any) -> Any:
        y = mb.mul(x=x, y=np.float32(100), name="large")
        counted = mb.cast(x=y, dtype="int32", name="counted")
        return mb.relu(x=y, name="positive"), counted

    folder = tmp_path_factory.mktemp("ranges")
    return programs.load(mil.program(function, {"x": (2,)}, "iOS15", "FLOAT16", folder))


def ranges(program: Program, *values: list[float], rounding: bool = False) -> dict[str, tuple[float, float]]:
    found = measure(program, ({"x": float32(each)} for each in values), rounding=rounding)
    assert not [name for name in found if "counted" in name]
    return {name.removesuffix("_cast_fp16"): bounds for name, bounds in found.items()}


def test_the_least_and_the_largest_over_all_feeds(program: Program) -> None:
    found = ranges(program, [1, 2], [-3, 0.5], [0, 4])
    assert found["x"] == (-3, 4)
    assert found["large"] == (-300, 400)
    # Zero of the feed that was all below.
    assert found["positive"] == (0, 400)


def test_without_rounding_nothing_overflows(program: Program) -> None:
    assert ranges(program, [1000, -1])["large"] == (-100, 100_000)
    assert ranges(program, [1000, -1], rounding=True)["large"] == (-100, np.inf)


@pytest.mark.parametrize("at", range(3))
def test_what_is_no_number_is_not_forgotten(program: Program, at: int) -> None:
    values = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    values[at][0] = np.nan
    found = ranges(program, *values)
    for name in ("x", "large", "positive"):
        assert np.isnan(found[name]).all(), name


def test_no_feed_has_no_ranges(program: Program) -> None:
    assert ranges(program) == {}
