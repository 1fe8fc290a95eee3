"""The elementwise operators against coremltools' own value inference, and rounding to float16 in a saved program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from evit_edge.converters.coreml import program as programs
from evit_edge.converters.coreml.executor import Executor
from evit_edge.converters.coreml.program import Operation

from . import mil

EVERYWHERE = ("abs", "atan", "ceil", "cos", "erf", "exp", "exp2", "floor", "round", "sign", "sin", "square", "tanh")
INSIDE = ("acos", "asin", "atanh", "cosh", "sinh", "tan")
BINARY = ("add", "floor_div", "maximum", "minimum", "mod", "mul", "real_div", "sub")
COMPARISONS = ("equal", "greater", "greater_equal", "less", "less_equal", "not_equal")
HALVES = mil.floats([-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 1e6 + 0.5, -0.0, 0.0])
FLOATS = st.floats(-50, 50, width=32)
PAIRS = (((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1, 3), (4, 1)), ((2, 3), ()), ((), (2, 2)))


@pytest.mark.parametrize("name", EVERYWHERE)
@settings(max_examples=10, deadline=None)
@given(arrays(np.float32, array_shapes(max_dims=4, max_side=3), elements=FLOATS))
def test_unary_is_what_coremltools_infers(name: str, x: NDArray[Any]) -> None:
    mil.agree(name, x=x, rtol=1e-5)


@pytest.mark.parametrize("name", EVERYWHERE)
def test_unary_on_halves_and_zeros(name: str) -> None:
    mil.agree(name, x=np.clip(HALVES, -40, 40))


def test_round_goes_to_the_even_number() -> None:
    np.testing.assert_array_equal(mil.ours("round", x=HALVES[:8]), [-4, -2, -2, 0, 0, 2, 2, 4])
    mil.agree("round", x=HALVES)


@pytest.mark.parametrize("name", INSIDE)
def test_unary_with_a_domain(name: str) -> None:
    mil.agree(name, x=np.linspace(-0.99, 0.99, 37, dtype=np.float32))


@pytest.mark.parametrize("name", ["abs", "sign", "square", "exp2"])
def test_unary_of_integers(name: str) -> None:
    x = mil.integers([[-5, -1, 0], [1, 2, 13]])
    mil.agree(name, x=x)
    assert mil.ours(name, x=x).dtype == np.int32


def test_exp2_of_integers_is_exact() -> None:
    np.testing.assert_array_equal(mil.ours("exp2", x=np.arange(31)), 1 << np.arange(31))


@pytest.mark.parametrize("name", ["inverse", "log", "rsqrt"])
@pytest.mark.parametrize("epsilon", [{}, {"epsilon": 0.5}])
def test_epsilon_and_its_default(name: str, epsilon: dict[str, Any]) -> None:
    mil.agree(name, x=mil.floats([[0.0, 1e-6], [0.3, 70.0]]), **epsilon)


def test_inverse_of_a_negative_number() -> None:
    mil.agree("inverse", x=mil.floats([-2.0, -0.3]))


def test_sqrt() -> None:
    mil.agree("sqrt", x=mil.floats([0.0, 1e-40, 2.0, 1e30]))


def test_logical_not() -> None:
    mil.agree("logical_not", x=np.array([True, False]))


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize("shapes", PAIRS)
def test_binary_is_what_coremltools_infers(name: str, dtype: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    x, y = (mil.numbers(*shape, seed=seed, dtype=dtype) for seed, shape in enumerate(shapes))
    divisor = np.where(y == 0, np.ones_like(y), y) if "div" in name or name == "mod" else y
    mil.agree(name, x=x, y=divisor)


@pytest.mark.parametrize("name", ["mod", "floor_div", "real_div"])
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_signs_of_a_division(name: str, dtype: str) -> None:
    x, y = np.array([7, -7, 7, -7, 6, -6], dtype), np.array([2, 2, -2, -2, 3, -3], dtype)
    mil.agree(name, x=x, y=y)
    by_hand: dict[tuple[str, str], list[float]] = {
        ("mod", "int32"): [1, 1, -1, -1, 0, 0],
        ("floor_div", "float32"): [3, -4, -4, 3, 2, 2],
        ("real_div", "int32"): [3, -3, -3, 3, 2, 2],
        ("real_div", "float32"): [3.5, -3.5, -3.5, 3.5, 2, 2],
    }
    if (name, dtype) in by_hand:
        np.testing.assert_array_equal(mil.ours(name, x=x, y=y), by_hand[name, dtype])


@settings(max_examples=25, deadline=None)
@given(
    arrays(np.float32, (5,), elements=st.floats(-100, 100, width=32)),
    arrays(np.float32, (5,), elements=st.floats(0.125, 9, width=32)),
    st.sampled_from([1, -1]),
)
def test_mod_and_floor_div_of_any_floats(x: NDArray[Any], y: NDArray[Any], sign: int) -> None:
    mil.agree("mod", x=x, y=sign * y, atol=1e-5)
    mil.agree("floor_div", x=x, y=sign * y)


def test_pow() -> None:
    mil.agree("pow", x=mil.floats([2, 0.3, 9, -2, 0]), y=mil.floats([3, -1.7, 0.5, 3, 0]))
    mil.agree("pow", x=mil.integers([2, -3, 0]), y=mil.integers([10, 3, 0]))


@pytest.mark.parametrize("name", COMPARISONS)
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_comparisons(name: str, dtype: str) -> None:
    mil.agree(name, x=np.array([[1, 2, 3]], dtype), y=np.array([[2], [1]], dtype))
    assert mil.ours(name, x=mil.floats([1]), y=mil.floats([1])).dtype == bool


@pytest.mark.parametrize("name", ["logical_and", "logical_or", "logical_xor"])
def test_logic(name: str) -> None:
    mil.agree(name, x=np.array([[True], [False]]), y=np.array([True, False]))


@settings(max_examples=10, deadline=None)
@given(arrays(np.float32, (7,), elements=FLOATS))
def test_bounds(x: NDArray[Any]) -> None:
    mil.agree("clip", x=x, alpha=-1.5, beta=3.25)
    mil.agree("clip", "iOS15", x=x, alpha=2.0, beta=-1.0)
    mil.agree("threshold", x=x, alpha=0.75)


def test_threshold_of_integers() -> None:
    mil.agree("threshold", x=mil.integers([-5, 0, 5]), alpha=np.int32(2))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "fp16", "fp32", "bool"])
@pytest.mark.parametrize(
    "x",
    [
        mil.floats([-2.7, -0.5, 0.0, 0.5, 2.7, 100.99]),
        mil.integers([-70000, -129, -1, 0, 1, 200, 300, 70000]),
        np.array([True, False]),
    ],
)
def test_cast(dtype: str, x: NDArray[Any]) -> None:
    if x.dtype == np.int32 and dtype == "fp16":
        x = x[1:-1]
    if x.dtype == np.float32 and dtype.startswith("u"):
        x = x[2:]
    want = mil.value("cast", x=x, dtype=dtype)
    np.testing.assert_allclose(mil.ours("cast", x=x, dtype=dtype), want, rtol=1e-3)


def test_an_unknown_dtype_is_no_cast() -> None:
    with pytest.raises(KeyError):
        mil.ours("cast", x=mil.floats([1]), dtype="fp64")


def test_a_saved_program_rounds_every_result_to_float16(tmp_path: Path) -> None:
    def body(mb: Any, x: Any, y: Any) -> Any:
        products = mb.mul(x=x, y=y)
        return mb.real_div(x=mb.exp(x=mb.sub(x=x, y=y)), y=mb.add(x=x, y=0.1)), mb.add(x=products, y=products)

    path = mil.program(body, {"x": (2, 40), "y": (40,)}, "iOS17", "FLOAT16", tmp_path)
    program = programs.load(path)
    x, y = mil.numbers(2, 40, scale=3), mil.numbers(40, scale=2)
    x[0, :4], y[:4] = [300, 6e-5, 3e-8, -300], [300, 0.01, 1, 300]
    seen: dict[str, NDArray[Any]] = {}
    kinds: list[str] = []

    def observe(operation: Operation, name: str, result: torch.Tensor) -> None:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            given = {key: _known(seen, program, names[0], x, y) for key, names in operation.inputs.items()}
            arithmetic: dict[str, Callable[[], Any]] = {
                "cast": lambda: given["x"],
                "mul": lambda: given["x"] * given["y"],
                "add": lambda: given["x"] + given["y"],
                "sub": lambda: given["x"] - given["y"],
                "real_div": lambda: given["x"] / given["y"],
                "exp": lambda: _exp(given["x"]),
            }
            want = arithmetic[operation.kind]()
            declared = operation.outputs[name]
            if declared is not None and declared.dtype == "float16":
                want = want.astype(np.float16)
        np.testing.assert_array_equal(result.numpy(), want.astype(np.float32))
        seen[name] = result.numpy()
        kinds.append(operation.kind)

    results = Executor(program).run({"x": x, "y": y}, observe=observe)
    assert {"cast", "mul", "add", "sub", "real_div", "exp"} <= set(kinds)
    sums = [result.numpy() for result in results.values() if np.isinf(result.numpy()[0, 0])]
    assert len(sums) == 1
    assert sums[0][0, 3] == -np.inf
    subnormal = 2 * np.float16(np.float32(np.float16(6e-5)) * np.float32(np.float16(0.01)))
    assert 0 < subnormal < np.finfo(np.float16).tiny
    assert sums[0][0, 1] == np.float32(subnormal)
    assert sums[0][0, 2] == np.float32(2 * np.float16(3e-8))


def test_a_saved_program_without_rounding_is_float32_arithmetic(tmp_path: Path) -> None:
    path = mil.program(
        lambda mb, x, y: mb.sub(x=mb.mul(x=x, y=y), y=mb.tanh(x=y)),
        {"x": (3, 5), "y": (5,)},
        "iOS15",
        "FLOAT16",
        tmp_path,
    )
    x, y = mil.numbers(3, 5, scale=300), mil.numbers(5, scale=300)
    program = programs.load(path)
    (exact,) = Executor(program, rounding=False).run({"x": x, "y": y}).values()
    np.testing.assert_allclose(exact.numpy(), x * y - np.tanh(y), rtol=1e-6, atol=1e-6)
    (rounded,) = Executor(program).run({"x": x, "y": y}).values()
    assert np.isinf(rounded.numpy()).any()


def test_casts_survive_a_saved_program(tmp_path: Path) -> None:
    def body(mb: Any, x: Any) -> Any:
        return mb.floor_div(x=mb.cast(x=x, dtype="int32"), y=np.int32(3))

    path = mil.program(body, {"x": (6,)}, "iOS17", "FLOAT32", tmp_path)
    (result,) = Executor(programs.load(path)).run({"x": mil.floats([-7.9, -3, -0.9, 0.9, 3, 7.9])}).values()
    assert result.dtype == torch.int32
    assert result.tolist() == [-3, -1, 0, 0, 1, 2]


def _exp(x: NDArray[Any]) -> Any:
    # NumPy's own may be one unit of float32 off, which then rounds to another float16.
    return torch.exp(torch.from_numpy(x)).numpy()


def _known(
    seen: dict[str, NDArray[Any]], program: programs.Program, name: str, x: NDArray[Any], y: NDArray[Any]
) -> NDArray[Any]:
    constant = program.constants.get(name)
    if constant is None:
        return seen[name] if name in seen else {"x": x, "y": y}[name]
    return np.asarray(constant.value).astype(np.float32) if not isinstance(constant.value, str) else np.zeros(0)
