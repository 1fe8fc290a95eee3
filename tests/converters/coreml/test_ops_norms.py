"""The normalisations: coremltools' own value inference where it exists, else MIL's formula in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from evit_edge.converters.coreml import program as programs
from evit_edge.converters.coreml.executor import Executor

from . import mil

SHAPES = ((2, 3, 4), (2, 3, 3, 3), (1, 3, 2, 1, 5), (2, 3, 1))
OPTIONAL: tuple[set[str], ...] = (set(), {"gamma"}, {"beta"}, {"gamma", "beta", "epsilon"})
CHANNELS: dict[str, Any] = {"gamma": mil.floats([2, -1, 0.5]), "beta": mil.floats([0.1, 3, -2]), "epsilon": 0.3}


def _batch_norm(
    x: NDArray[Any], mean: Any, variance: Any, gamma: Any = 1.0, beta: Any = 0.0, epsilon: float = 1e-5
) -> NDArray[Any]:
    """Channel by channel, as the formula says."""
    result = np.empty(x.shape)
    for channel in range(x.shape[1]):
        scale, offset = np.broadcast_to(gamma, 3)[channel], np.broadcast_to(beta, 3)[channel]
        normal = (x[:, channel].astype(np.float64) - mean[channel]) / np.sqrt(variance[channel] + epsilon)
        result[:, channel] = scale * normal + offset
    return result


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("given_too", OPTIONAL)
def test_batch_norm(shape: tuple[int, ...], given_too: set[str]) -> None:
    inputs: dict[str, Any] = {
        "x": mil.numbers(*shape),
        "mean": mil.floats([1, -2, 0]),
        "variance": mil.floats([0.5, 2, 1e-6]),
    }
    inputs.update({name: CHANNELS[name] for name in given_too})
    np.testing.assert_allclose(mil.ours("batch_norm", **inputs), _batch_norm(**inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("given_too", OPTIONAL)
def test_instance_norm(shape: tuple[int, ...], given_too: set[str]) -> None:
    x = mil.numbers(*shape, scale=3) + 1
    optional = {name: CHANNELS[name] for name in given_too}
    want = np.empty(shape)
    for image in range(shape[0]):
        for channel in range(3):
            plane = x[image, channel].astype(np.float64)
            normal = (plane - plane.mean()) / np.sqrt(
                ((plane - plane.mean()) ** 2).mean() + optional.get("epsilon", 1e-5)
            )
            scale = optional["gamma"][channel] if "gamma" in optional else 1
            want[image, channel] = normal * scale + (optional["beta"][channel] if "beta" in optional else 0)
    np.testing.assert_allclose(mil.ours("instance_norm", x=x, **optional), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 2), (2, 1, 3, 2, 2)])
@pytest.mark.parametrize("epsilon", [{}, {"epsilon": 0.5}])
def test_l2_norm(shape: tuple[int, ...], epsilon: dict[str, Any]) -> None:
    mil.agree("l2_norm", x=mil.numbers(*shape), **epsilon)
    mil.agree("l2_norm", x=np.full(shape, 1e-3, np.float32), **epsilon)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([[-1], [1, 2], [0], [1], [0, 2], [2, 1], [-3, -1], [0, 1, 2], None]),
    st.sampled_from([(), ("gamma",), ("gamma", "beta")]),
    st.sampled_from([1e-5, 0.25]),
)
def test_layer_norm(axes: list[int] | None, given_too: tuple[str, ...], epsilon: float) -> None:
    x = mil.numbers(3, 3, 3, scale=2) + 0.5
    over = [0, 1, 2] if axes is None else axes
    optional: dict[str, Any] = {name: mil.numbers(*[3] * len(over), seed=len(name)) for name in given_too}
    mil.agree("layer_norm", x=x, axes=over, epsilon=epsilon, atol=1e-5, **optional)
    if axes is None:
        # coremltools' own default of the axes is a range, which its builder refuses.
        explicit = mil.ours("layer_norm", x=x, axes=over, epsilon=epsilon, **optional)
        np.testing.assert_array_equal(mil.ours("layer_norm", x=x, epsilon=epsilon, **optional), explicit)


def test_layer_norm_with_an_offset_alone() -> None:
    x, beta = mil.numbers(2, 5), mil.numbers(5)
    plain = mil.ours("layer_norm", x=x, axes=[1])
    np.testing.assert_allclose(mil.ours("layer_norm", x=x, axes=[1], beta=beta), plain + beta, rtol=1e-5)
    np.testing.assert_allclose(
        mil.ours("layer_norm", x=x.T.copy(), axes=[0], beta=beta), (plain + beta).T, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("shape", [(1, 6, 2), (2, 5, 2, 3)])
def test_local_response_norm(size: int, shape: tuple[int, ...]) -> None:
    x = mil.numbers(*shape, scale=2)
    want = np.empty(shape)
    for channel in range(shape[1]):
        first = max(0, channel - size // 2)
        around = x[:, first : channel - size // 2 + size].astype(np.float64)
        want[:, channel] = x[:, channel] / (2 + 0.5 / size * (around**2).sum(1)) ** 0.6
    np.testing.assert_allclose(
        mil.ours("local_response_norm", x=x, size=size, alpha=0.5, beta=0.6, k=2.0), want, rtol=1e-5
    )
    explicit = mil.ours("local_response_norm", x=x, size=size, alpha=1e-4, beta=0.75, k=1.0)
    np.testing.assert_array_equal(mil.ours("local_response_norm", x=x, size=size), explicit)


@pytest.mark.parametrize("precision", ["FLOAT32", "FLOAT16"])
def test_a_saved_program(tmp_path: Path, precision: str) -> None:
    mean, variance = mil.floats([1, -2, 0]), mil.floats([0.5, 2, 1])

    def body(mb: Any, x: Any) -> Any:
        y = mb.batch_norm(x=x, mean=mean, variance=variance, gamma=CHANNELS["gamma"], beta=CHANNELS["beta"])
        y = mb.instance_norm(x=mb.relu(x=y), epsilon=0.1)
        return mb.layer_norm(x=y, axes=[1], gamma=CHANNELS["gamma"], beta=CHANNELS["beta"], epsilon=0.3)

    program = programs.load(mil.program(body, {"x": (2, 3, 4, 5)}, "iOS16", precision, tmp_path))
    assert {"batch_norm", "instance_norm", "layer_norm"} <= {o.kind for o in program.operations}
    x = mil.numbers(2, 3, 4, 5)
    y = np.maximum(_batch_norm(x, mean, variance, CHANNELS["gamma"], CHANNELS["beta"]), 0)
    y = (y - y.mean((2, 3), keepdims=True)) / np.sqrt(y.var((2, 3), keepdims=True) + 0.1)
    y = (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, keepdims=True) + 0.3)
    want = y * CHANNELS["gamma"].reshape(1, 3, 1, 1) + CHANNELS["beta"].reshape(1, 3, 1, 1)
    (result,) = Executor(program).run({"x": x}).values()
    np.testing.assert_allclose(result.numpy(), want, atol=1e-5 if precision == "FLOAT32" else 2e-2)
