"""The reductions against coremltools' own value inference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evit_edge.converters.coreml import program as programs
from evit_edge.converters.coreml.executor import Executor

from . import mil

NAMES = ("l1_norm", "l2_norm", "log_sum", "log_sum_exp", "max", "mean", "min", "prod", "sum", "sum_square")
AXES = st.sampled_from([None, [0], [1], [-1], [0, 2], [2, 0], [-1, -3], [0, 1, 2], [-2]])


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20, deadline=None)
@given(AXES, st.booleans(), st.sampled_from(["float32", "int32"]), st.integers(0, 9))
def test_over_axes(name: str, axes: list[int] | None, keep: bool, dtype: str, seed: int) -> None:
    x = mil.numbers(2, 3, 4, seed=seed, dtype=dtype)
    over: dict[str, Any] = {} if axes is None else {"axes": axes}
    mil.agree(f"reduce_{name}", x=np.abs(x) + 1 if name == "log_sum" else x, keep_dims=keep, atol=1e-5, **over)


@pytest.mark.parametrize("name", NAMES)
def test_all_axes_without_keeping_them_is_the_default(name: str) -> None:
    result = mil.ours(f"reduce_{name}", x=np.ones((2, 2), np.float32))
    by_hand = {
        "l2_norm": 2,
        "log_sum": np.log(4),
        "log_sum_exp": 1 + np.log(4),
        "max": 1,
        "mean": 1,
        "min": 1,
        "prod": 1,
    }
    assert result.shape == ()
    assert result == pytest.approx(by_hand.get(name, 4))


def test_log_sum_exp_does_not_overflow() -> None:
    mil.agree("reduce_log_sum_exp", x=mil.floats([[1000, 1000], [-1000, -1001]]), axes=[1])


def test_a_mean_of_integers_is_cut_off() -> None:
    mil.agree("reduce_mean", x=mil.integers([[-1, -2, -2], [1, 2, 2]]), axes=[1])
    assert mil.ours("reduce_mean", x=mil.integers([[-1, -2, -2], [1, 2, 2]]), axes=[1]).tolist() == [-1, 1]


@pytest.mark.parametrize("name", ["reduce_argmax", "reduce_argmin"])
@pytest.mark.parametrize("axis", [{}, {"axis": 0}, {"axis": 1}, {"axis": -2}])
@pytest.mark.parametrize("keep", [False, True])
def test_where(name: str, axis: dict[str, Any], keep: bool) -> None:
    x = mil.numbers(3, 4, 5)
    mil.agree(name, x=x, keep_dims=keep, **axis)
    mil.agree(name, "iOS15", x=mil.numbers(3, 4, 5, dtype="int32"), keep_dims=keep, **axis)
    mil.agree(name, x=x, keep_dims=keep, output_dtype="uint16", **axis)


@pytest.mark.parametrize("precision", ["FLOAT32", "FLOAT16"])
def test_a_saved_program(tmp_path: Path, precision: str) -> None:
    def body(mb: Any, x: Any) -> Any:
        largest = mb.reduce_max(x=x, axes=[1, 3], keep_dims=True)
        return mb.reduce_mean(x=mb.sub(x=x, y=largest), axes=[-2]), mb.reduce_argmax(x=x, axis=1, output_dtype="uint16")

    program = programs.load(mil.program(body, {"x": (2, 3, 4, 5)}, "iOS17", precision, tmp_path))
    x = mil.numbers(2, 3, 4, 5)
    mean, where = Executor(program).run({"x": x}).values()
    exact = precision == "FLOAT32"
    want = (x - x.max((1, 3), keepdims=True)).mean(2)
    np.testing.assert_allclose(mean.numpy(), want, rtol=1e-5 if exact else 1e-2, atol=1e-6 if exact else 1e-2)
    np.testing.assert_array_equal(where.numpy(), x.astype(np.float32 if exact else np.float16).argmax(1))


def test_a_sum_in_float16_is_carried_in_float32(tmp_path: Path) -> None:
    path = mil.program(lambda mb, x: mb.reduce_sum(x=x, axes=[0]), {"x": (4001,)}, "iOS17", "FLOAT16", tmp_path)
    (result,) = Executor(programs.load(path)).run({"x": np.ones(4001, np.float32)}).values()
    assert result.item() == np.float16(4001)
