"""The activations against coremltools' own value inference, or MIL's formula where it has none or differs from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from evit_edge.converters.coreml import program as programs
from evit_edge.converters.coreml.executor import Executor

from . import mil

PLAIN = ("relu", "relu6", "sigmoid", "softplus", "softsign")
EDGES = mil.floats([-30, -3, -2.5, -1, -1e-3, -0.0, 0.0, 1e-3, 0.5, 1, 2.5, 3, 5.99, 6, 6.01, 30])
INPUTS = arrays(np.float32, array_shapes(min_dims=1, max_dims=4, max_side=3), elements=st.floats(-40, 40, width=32))
SLOPES = st.floats(-2, 2, width=32)


@pytest.mark.parametrize("name", PLAIN)
@settings(max_examples=15, deadline=None)
@given(INPUTS)
def test_plain(name: str, x: NDArray[Any]) -> None:
    mil.agree(name, x=x)
    mil.agree(name, x=EDGES)


@pytest.mark.parametrize("mode", ["EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"])
def test_gelu(mode: str) -> None:
    mil.agree("gelu", x=np.linspace(-8, 8, 101, dtype=np.float32), mode=mode, atol=2e-6)


def test_gelu_is_exact_unless_it_is_said() -> None:
    x = np.linspace(-3, 3, 31, dtype=np.float32)
    mil.agree("gelu", x=x)
    assert np.abs(mil.ours("gelu", x=x) - mil.ours("gelu", x=x, mode="TANH_APPROXIMATION")).max() > 1e-4


def test_an_unknown_mode_is_no_gelu() -> None:
    with pytest.raises(KeyError):
        mil.ours("gelu", x=EDGES, mode="TANH")


def test_silu_by_its_formula() -> None:
    np.testing.assert_allclose(mil.ours("silu", x=EDGES), EDGES / (1 + np.exp(-EDGES.astype(np.float64))), rtol=1e-6)


def test_softplus_where_the_exponential_overflows() -> None:
    mil.agree("softplus", x=mil.floats([-200, 19.9, 20.1, 21, 100, 3e38]))


@pytest.mark.parametrize("name", ["elu", "leaky_relu", "thresholded_relu"])
@settings(max_examples=15, deadline=None)
@given(INPUTS, SLOPES)
def test_with_alpha(name: str, x: NDArray[Any], alpha: float) -> None:
    mil.agree(name, x=x, alpha=np.float32(alpha), atol=1e-5)


@pytest.mark.parametrize("name", ["linear_activation", "scaled_tanh", "sigmoid_hard"])
@settings(max_examples=15, deadline=None)
@given(INPUTS, SLOPES, SLOPES)
def test_with_alpha_and_beta(name: str, x: NDArray[Any], alpha: float, beta: float) -> None:
    mil.agree(name, x=x, alpha=np.float32(alpha), beta=np.float32(beta), atol=1e-5)


def test_thresholded_relu_keeps_the_threshold_itself() -> None:
    x = mil.floats([0.99, 1, 1.01])
    np.testing.assert_array_equal(mil.ours("thresholded_relu", x=x, alpha=1.0), [0, 1, x[2]])


@settings(max_examples=15, deadline=None)
@given(INPUTS, SLOPES, st.floats(0, 5, width=32))
def test_clamped_relu(x: NDArray[Any], alpha: float, beta: float) -> None:
    mil.agree("clamped_relu", x=x, alpha=np.float32(alpha), beta=np.float32(beta), atol=1e-5)


def test_clamped_relu_below_zero_is_what_mil_documents() -> None:
    x = mil.floats([-4, -1, 0, 0.5, 3])
    # coremltools' inference adds its two sides, each of them clamped: -2 where the definition says -1.
    want = np.where(x >= 0, np.minimum(-1, x), np.minimum(-1, 0.5 * x))
    np.testing.assert_array_equal(mil.ours("clamped_relu", x=x, alpha=0.5, beta=-1.0), want)


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 3, 2, 5), (2, 3, 1, 2, 2)])
def test_by_channel(shape: tuple[int, ...]) -> None:
    x = mil.numbers(*shape, scale=3)
    alpha = mil.floats([0.25, -0.5, 2]) if len(shape) == 4 else mil.floats([0.25] * 3)
    mil.agree("prelu", x=x, alpha=alpha)
    mil.agree("softplus_parametric", x=x, alpha=mil.floats([0.25, -0.5, 2]), beta=mil.floats([1, -2, 0.1]))


def test_prelu_has_its_channels_on_axis_1() -> None:
    x = -np.ones((3, 3, 3, 3), np.float32)
    mil.agree("prelu", x=x, alpha=mil.floats([1, 2, 3]))


@pytest.mark.parametrize("axis", [-1, 0, 1, 2, -2])
def test_softmax(axis: int) -> None:
    mil.agree("softmax", x=mil.numbers(3, 3, 3, scale=20), axis=axis)


def test_softmax_is_over_the_last_axis_unless_it_is_said() -> None:
    mil.agree("softmax", x=mil.numbers(2, 3, 4))
    mil.agree("softmax", x=mil.floats([1000, 999, -1000]))


@pytest.mark.parametrize("precision", ["FLOAT32", "FLOAT16"])
def test_a_saved_program(tmp_path: Path, precision: str) -> None:
    def body(mb: Any, x: Any) -> Any:
        y = mb.prelu(x=mb.leaky_relu(x=x, alpha=0.5), alpha=mil.floats([0.5, -2]))
        y = mb.add(x=mb.gelu(x=y, mode="TANH_APPROXIMATION"), y=mb.sigmoid_hard(x=y, alpha=0.25, beta=0.5))
        return mb.softmax(x=mb.silu(x=y), axis=1)

    path = mil.program(body, {"x": (1, 2, 3, 3)}, "iOS17", precision, tmp_path)
    program = programs.load(path)
    assert {"prelu", "leaky_relu", "gelu", "sigmoid_hard", "silu", "softmax"} <= {o.kind for o in program.operations}
    x = mil.numbers(1, 2, 3, 3, scale=2)
    y = np.where(x < 0, x / 2, x)
    y = np.where(y < 0, y * mil.floats([0.5, -2]).reshape(1, 2, 1, 1), y)
    y = y / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3))) + np.clip(y / 4 + 0.5, 0, 1)
    y = np.exp(y / (1 + np.exp(-y)))
    (result,) = Executor(program).run({"x": x}).values()
    np.testing.assert_allclose(
        result.numpy(), y / y.sum(1, keepdims=True), atol=1e-6 if precision == "FLOAT32" else 3e-3
    )
