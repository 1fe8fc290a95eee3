"""The products of matrices against coremltools' own value inference."""

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

SIDES = st.integers(1, 4)


@settings(max_examples=25, deadline=None)
@given(st.lists(SIDES, min_size=1, max_size=3), SIDES, st.booleans(), st.sampled_from(["float32", "int32"]))
def test_linear(shape: list[int], outputs: int, biased: bool, dtype: str) -> None:
    bias: dict[str, Any] = {"bias": mil.numbers(outputs, dtype=dtype)} if biased else {}
    mil.agree("linear", x=mil.numbers(*shape, dtype=dtype), weight=mil.numbers(outputs, shape[-1], dtype=dtype), **bias)


@settings(max_examples=40, deadline=None)
@given(
    SIDES,
    SIDES,
    SIDES,
    st.sampled_from([((), ()), ((2,), (2,)), ((2, 3), (3,)), ((1, 3), (2, 1)), ((), (2,))]),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["float32", "int32"]),
)
def test_matmul(
    rows: int, inner: int, columns: int, batch: tuple[tuple[int, ...], ...], turn_x: bool, turn_y: bool, dtype: str
) -> None:
    x = mil.numbers(*batch[0], *((inner, rows) if turn_x else (rows, inner)), seed=1, dtype=dtype)
    y = mil.numbers(*batch[1], *((columns, inner) if turn_y else (inner, columns)), seed=2, dtype=dtype)
    mil.agree("matmul", x=x, y=y, transpose_x=turn_x, transpose_y=turn_y, atol=1e-5)


@pytest.mark.parametrize(("turn_x", "turn_y"), [(False, False), (True, False), (False, True), (True, True)])
def test_matmul_of_squares_is_transposed_where_it_is_said(turn_x: bool, turn_y: bool) -> None:
    x, y = mil.floats([[1, 2], [3, 4]]), mil.floats([[5, 6], [7, 8]])
    want = (x.T if turn_x else x) @ (y.T if turn_y else y)
    np.testing.assert_array_equal(mil.ours("matmul", x=x, y=y, transpose_x=turn_x, transpose_y=turn_y), want)
    mil.agree("matmul", x=x, y=y, transpose_x=turn_x, transpose_y=turn_y)


def test_matmul_of_a_vector_on_the_left() -> None:
    mil.agree("matmul", x=mil.numbers(4), y=mil.numbers(2, 4, 3))


def test_matmul_of_a_vector_on_the_right_is_what_mil_documents() -> None:
    # coremltools' type inference fails here, and so has no value.
    x, y = mil.numbers(2, 3, 4), mil.numbers(4)
    for turn_y in (False, True):
        np.testing.assert_allclose(mil.ours("matmul", x=x, y=y, transpose_y=turn_y), (x * y).sum(-1), rtol=1e-5)
    np.testing.assert_allclose(mil.ours("matmul", x=y, y=y), (y * y).sum(), rtol=1e-6)


@pytest.mark.parametrize(
    ("equation", "x", "y"),
    [
        ("nchw,nwhu->nchu", (2, 3, 4, 5), (2, 5, 4, 6)),
        ("nchw,nwhu->nchu", (2, 2, 2, 2), (2, 2, 2, 2)),
        ("abcd,adce->abce", (1, 3, 4, 5), (2, 5, 1, 6)),
        ("chw,whr->chr", (3, 4, 5), (5, 4, 6)),
        ("chw,whr->chr", (3, 1, 5), (5, 4, 6)),
    ],
)
def test_einsum(equation: str, x: tuple[int, ...], y: tuple[int, ...]) -> None:
    values = (mil.numbers(*x, seed=1), mil.numbers(*y, seed=2))
    if 1 not in x:
        mil.agree("einsum", values=values, equation=equation)
    np.testing.assert_allclose(
        mil.ours("einsum", values=values, equation=equation), np.einsum(equation, *values), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("batch", [(1,), (2, 3)])
@pytest.mark.parametrize("mask", ["none", "float", "bool", "row"])
def test_attention(batch: tuple[int, ...], mask: str) -> None:
    query, key, value = (mil.numbers(*batch, *shape) for shape in ((4, 5), (6, 5), (6, 3)))
    scores = mil.numbers(4, 6, seed=3)
    allowed = scores > -0.3
    allowed[:, 0] = True
    masks: dict[str, Any] = {
        "none": {},
        "float": {"attn_mask": scores},
        "bool": {"attn_mask": allowed},
        "row": {"attn_mask": allowed[:1]},
    }
    name = "scaled_dot_product_attention"
    mil.agree(name, "iOS18", query=query, key=key, value=value, **masks[mask])
    if mask == "bool":
        without = mil.ours(name, query=query, key=key, value=value)
        assert np.abs(mil.ours(name, query=query, key=key, value=value, **masks[mask]) - without).max() > 0.01


def test_attention_leaves_out_what_the_mask_forbids() -> None:
    query, key = np.ones((1, 1, 2), np.float32), np.ones((1, 3, 2), np.float32)
    value = mil.floats([[[1], [10], [100]]])
    result = mil.ours(
        "scaled_dot_product_attention", query=query, key=key, value=value, attn_mask=np.array([[True, False, True]])
    )
    np.testing.assert_allclose(result, [[[50.5]]])


@pytest.mark.parametrize("precision", ["FLOAT32", "FLOAT16"])
def test_a_saved_program(tmp_path: Path, precision: str) -> None:
    weight, bias = mil.numbers(4, 6, seed=1), mil.numbers(4, seed=2)

    def body(mb: Any, x: Any) -> Any:
        y = mb.linear(x=x, weight=weight, bias=bias)
        scores = mb.matmul(x=y, y=y, transpose_y=True)
        attention = mb.scaled_dot_product_attention(query=y, key=y, value=y)
        return mb.add(x=mb.matmul(x=scores, y=y), y=attention)

    program = programs.load(mil.program(body, {"x": (1, 4, 6)}, "iOS18", precision, tmp_path))
    assert {"linear", "matmul", "scaled_dot_product_attention"} <= {o.kind for o in program.operations}
    x = mil.numbers(1, 4, 6)
    y = x @ weight.T + bias
    scores = y @ y.transpose(0, 2, 1)
    weights = np.exp(scores / 2)
    want = scores @ y + weights / weights.sum(-1, keepdims=True) @ y
    (result,) = Executor(program).run({"x": x}).values()
    np.testing.assert_allclose(
        result.numpy(),
        want,
        rtol=1e-4 if precision == "FLOAT32" else 1e-2,
        atol=1e-4 if precision == "FLOAT32" else 0.1,
    )


def test_a_product_in_float16_is_summed_in_float32(tmp_path: Path) -> None:
    program = programs.load(
        mil.program(lambda mb, x: mb.matmul(x=x, y=x, transpose_x=True), {"x": (4096, 1)}, "iOS17", "FLOAT16", tmp_path)
    )
    x = np.ones((4096, 1), np.float32)
    x[-1] = 1.5
    (result,) = Executor(program).run({"x": x}).values()
    assert result.item() == np.float16(4095 + 2.25)
    (overflow,) = Executor(program).run({"x": 4 * x}).values()
    assert np.isposinf(overflow.item())
