"""The poolings against a loop over every window, and values that coremltools says Core ML gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from evit_edge.converters.coreml import program as programs
from evit_edge.converters.coreml.executor import Executor

from . import mil

OPERATORS = ("max_pool", "avg_pool", "l2_pool")


def _outputs(size: int, kernel: int, stride: int, pads: tuple[int, int], ceil: bool) -> int:
    """MIL's formulas of the output's size."""
    if not ceil:
        return (size + sum(pads) - kernel) // stride + 1
    outputs = (size + sum(pads) - kernel + stride - 1) // stride + 1
    return outputs - 1 if (outputs - 1) * stride >= size + pads[0] and sum(pads) > 0 else outputs


def _pool(
    name: str,
    x: NDArray[Any],
    kernel: list[int],
    strides: list[int],
    pads: list[tuple[int, int]],
    *,
    ceil: bool = False,
    exclude: bool = False,
) -> NDArray[Any]:
    """Window by window; a place is of the input, of the padding, or behind both."""
    sides = list(zip(x.shape[2:], kernel, strides, pads, strict=True))
    result = np.empty((*x.shape[:2], *(_outputs(*side, ceil) for side in sides)))
    for place in np.ndindex(*result.shape[2:]):
        values, padding = [], 0
        for tap in np.ndindex(*kernel):
            at = [p * side[2] + t - side[3][0] for p, t, side in zip(place, tap, sides, strict=True)]
            if all(0 <= a < side[0] for a, side in zip(at, sides, strict=True)):
                values.append(x[mil.at(slice(None), slice(None), *at)].astype(np.float64))
            elif all(a < side[0] + side[3][1] for a, side in zip(at, sides, strict=True)):
                padding += 1
        stack = np.stack(values)
        result[mil.at(slice(None), slice(None), *place)] = {
            "max_pool": stack.max(0),
            "avg_pool": stack.sum(0) / (len(values) + (0 if exclude else padding)),
            "l2_pool": np.sqrt((stack**2).sum(0)),
        }[name]
    return result


@st.composite
def _cases(draw: st.DrawFn) -> dict[str, Any]:
    axes = draw(st.integers(1, 3))
    each: dict[str, Any] = {"min_size": axes, "max_size": axes}
    kernel = draw(st.lists(st.integers(1, 4), **each))
    return {
        "kernel": kernel,
        "strides": draw(st.lists(st.integers(1, 3), **each)),
        "sizes": draw(st.lists(st.integers(max(kernel), max(kernel) + 3), **each)),
        # A window lies never all in the padding.
        "pads": [tuple(draw(st.tuples(*[st.integers(0, size - 1)] * 2))) for size in kernel],
        "exclude": draw(st.booleans()),
    }


@pytest.mark.parametrize("name", OPERATORS)
@settings(max_examples=30, deadline=None)
@given(_cases())
def test_custom_padding(name: str, case: dict[str, Any]) -> None:
    x = mil.numbers(2, 2, *case["sizes"]) - 1
    extra = {"exclude_padding_from_average": case["exclude"]} if name == "avg_pool" else {}
    want = _pool(name, x, case["kernel"], case["strides"], case["pads"], exclude=case["exclude"])
    pad = [side for pair in case["pads"] for side in pair]
    got = mil.ours(name, x=x, kernel_sizes=case["kernel"], strides=case["strides"], pad_type="custom", pad=pad, **extra)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OPERATORS)
@settings(max_examples=30, deadline=None)
@given(_cases())
def test_ceil_mode(name: str, case: dict[str, Any]) -> None:
    assume(
        all(
            pads[0] or kernel >= stride
            for pads, kernel, stride in zip(case["pads"], case["kernel"], case["strides"], strict=True)
        )
    )
    x = mil.numbers(2, 2, *case["sizes"]) - 1
    pads = [(before, before) for before, _ in case["pads"]]
    extra = {"exclude_padding_from_average": case["exclude"]} if name == "avg_pool" else {}
    want = _pool(name, x, case["kernel"], case["strides"], pads, ceil=True, exclude=case["exclude"])
    pad = [side for pair in pads for side in pair]
    got = mil.ours(
        name,
        x=x,
        kernel_sizes=case["kernel"],
        strides=case["strides"],
        pad_type="custom",
        pad=pad,
        ceil_mode=True,
        **extra,
    )
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize(("size", "kernel", "stride", "pad"), [(6, 3, 2, 1), (7, 3, 3, 1), (5, 2, 2, 0), (9, 4, 3, 2)])
def test_ceil_mode_is_that_of_pytorch(include: bool, size: int, kernel: int, stride: int, pad: int) -> None:
    x = mil.numbers(1, 2, size, size)
    average = torch.nn.AvgPool2d(kernel, stride, pad, ceil_mode=True, count_include_pad=include)
    largest = torch.nn.MaxPool2d(kernel, stride, pad, ceil_mode=True)
    named = {"kernel_sizes": [kernel] * 2, "strides": [stride] * 2, "pad": [pad] * 4, "pad_type": "custom"}
    got = mil.ours("avg_pool", x=x, ceil_mode=True, exclude_padding_from_average=not include, **named)
    np.testing.assert_allclose(got, average(torch.from_numpy(x)), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(mil.ours("max_pool", x=x, ceil_mode=True, **named), largest(torch.from_numpy(x)))


def test_a_window_behind_the_input_is_refused() -> None:
    with pytest.raises(NotImplementedError):
        mil.ours(
            "max_pool",
            x=np.ones((1, 1, 3), np.float32),
            kernel_sizes=[1],
            strides=[3],
            pad_type="valid",
            ceil_mode=True,
        )


@pytest.mark.parametrize("name", OPERATORS)
@settings(max_examples=20, deadline=None)
@given(_cases(), st.sampled_from(["same", "same_lower", "valid", "SAME"]))
def test_other_paddings(name: str, case: dict[str, Any], pad_type: str) -> None:
    x = mil.numbers(1, 2, *case["sizes"]) - 1
    pads: list[tuple[int, int]] = []
    for size, kernel, stride in zip(case["sizes"], case["kernel"], case["strides"], strict=True):
        total = 0 if pad_type == "valid" else max(0, (int(np.ceil(size / stride)) - 1) * stride + kernel - size)
        less, more = total // 2, total - total // 2
        pads.append((more, less) if pad_type == "same_lower" else (less, more))
    extra = {"exclude_padding_from_average": case["exclude"]} if name == "avg_pool" else {}
    want = _pool(name, x, case["kernel"], case["strides"], pads, exclude=case["exclude"])
    # What is given for the padding counts for `custom` only.
    pad = [1] * 2 * len(pads)
    got = mil.ours(name, x=x, kernel_sizes=case["kernel"], strides=case["strides"], pad_type=pad_type, pad=pad, **extra)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_values_that_coremltools_expects_of_core_ml() -> None:
    x = mil.floats([[[[1, 2], [3, 4]]]])
    named: dict[str, Any] = {"x": x, "kernel_sizes": [2, 2], "pad_type": "same_lower"}
    np.testing.assert_allclose(mil.ours("l2_pool", **named), [[[[1, 2.236068], [3.162278, 5.477226]]]], rtol=1e-6)
    np.testing.assert_array_equal(mil.ours("max_pool", **named), x)
    np.testing.assert_array_equal(mil.ours("avg_pool", **named), [[[[0.25, 0.75], [1, 2.5]]]])


def test_the_padding_is_never_the_maximum() -> None:
    x = mil.floats([[[-3, -2, -1]]])
    got = mil.ours("max_pool", x=x, kernel_sizes=[2], pad_type="custom", pad=[1, 0])
    np.testing.assert_array_equal(got, [[[-3, -2, -1]]])


@pytest.mark.parametrize("precision", ["FLOAT32", "FLOAT16"])
def test_a_saved_program(tmp_path: Path, precision: str) -> None:
    def body(mb: Any, x: Any) -> Any:
        y = mb.max_pool(x=x, kernel_sizes=[3, 2], strides=[2, 1], pad_type="custom", pad=[1, 0, 0, 1])
        y = mb.avg_pool(
            x=y, kernel_sizes=[2, 2], pad_type="custom", pad=[1, 0, 1, 1], exclude_padding_from_average=True
        )
        return mb.l2_pool(x=y, kernel_sizes=[2, 3], strides=[2, 2], pad_type="same")

    program = programs.load(mil.program(body, {"x": (2, 3, 7, 6)}, "iOS17", precision, tmp_path))
    assert set(OPERATORS) <= {o.kind for o in program.operations}
    x = mil.numbers(2, 3, 7, 6)
    y = _pool("max_pool", x, [3, 2], [2, 1], [(1, 0), (0, 1)])
    y = _pool("avg_pool", y, [2, 2], [1, 1], [(1, 0), (1, 1)], exclude=True)
    assert y.shape[2:] == (3, 7)
    want = _pool("l2_pool", y, [2, 3], [2, 2], [(0, 1), (1, 1)])
    (result,) = Executor(program).run({"x": x}).values()
    np.testing.assert_allclose(result.numpy(), want, rtol=1e-5 if precision == "FLOAT32" else 4e-3)
