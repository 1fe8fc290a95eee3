"""The convolutions against loops over MIL's definition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from evit_edge.converters.coreml import program as programs
from evit_edge.converters.coreml.executor import Executor

from . import mil

Pairs = list[tuple[int, int]]


def _pairs(pad_type: str, pad: list[int], sizes: list[int], widths: list[int], strides: list[int]) -> Pairs:
    """The padding that gives ceil(size / stride) outputs; its odd row is behind for `same`, before for `same_lower`."""
    if pad_type == "custom":
        return [(pad[2 * axis], pad[2 * axis + 1]) for axis in range(len(sizes))]
    result = []
    for size, width, stride in zip(sizes, widths, strides, strict=True):
        total = 0
        while pad_type != "valid" and (size + total - width) // stride + 1 < int(np.ceil(size / stride)):
            total += 1
        less, more = sorted((total // 2, total - total // 2))
        result.append((less, more) if pad_type == "same" else (more, less))
    return result


def _conv(
    x: NDArray[Any], weight: NDArray[Any], pairs: Pairs, strides: list[int], dilations: list[int], groups: int
) -> NDArray[Any]:
    """Every output by itself: the products of the kernel with what lies under it."""
    wide = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *pairs])
    kernel = weight.shape[2:]
    spans = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    sizes = [(w - span) // step + 1 for w, span, step in zip(wide.shape[2:], spans, strides, strict=True)]
    result = np.zeros((x.shape[0], weight.shape[0], *sizes))
    for output in range(weight.shape[0]):
        first = output // (weight.shape[0] // groups) * weight.shape[1]
        for place in np.ndindex(*sizes):
            for tap in np.ndindex(*kernel):
                at = tuple(p * s + t * d for p, s, t, d in zip(place, strides, tap, dilations, strict=True))
                seen = wide[mil.at(slice(None), slice(first, first + weight.shape[1]), *at)]
                result[mil.at(slice(None), output, *place)] += seen @ weight[mil.at(output, slice(None), *tap)]
    return result


def _spread(
    x: NDArray[Any], weight: NDArray[Any], strides: list[int], dilations: list[int], groups: int
) -> NDArray[Any]:
    """Every input spreads its kernel over the output, which is not cut."""
    kernel = weight.shape[2:]
    sizes = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(x.shape[2:], strides, kernel, dilations, strict=True)]
    result = np.zeros((x.shape[0], weight.shape[1] * groups, *sizes))
    for channel in range(x.shape[1]):
        first = channel // (x.shape[1] // groups) * weight.shape[1]
        for place in np.ndindex(*x.shape[2:]):
            for tap in np.ndindex(*kernel):
                at = tuple(p * s + t * d for p, s, t, d in zip(place, strides, tap, dilations, strict=True))
                part = np.outer(x[mil.at(slice(None), channel, *place)], weight[mil.at(channel, slice(None), *tap)])
                result[mil.at(slice(None), slice(first, first + weight.shape[1]), *at)] += part
    return result


@st.composite
def _cases(draw: st.DrawFn) -> dict[str, Any]:
    axes = draw(st.integers(1, 3))
    each: dict[str, Any] = {"min_size": axes, "max_size": axes}
    kernel = draw(st.lists(st.integers(1, 3), **each))
    dilations = draw(st.lists(st.integers(1, 2), **each))
    least = max((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    return {
        "groups": draw(st.sampled_from([1, 2])),
        "kernel": kernel,
        "dilations": dilations,
        "strides": draw(st.lists(st.integers(1, 3), **each)),
        "sizes": draw(st.lists(st.integers(least, least + 3), **each)),
        "pad_type": draw(st.sampled_from(["valid", "same", "same_lower", "custom"])),
        "pad": draw(st.lists(st.integers(0, 2), min_size=2 * axes, max_size=2 * axes)),
        "bias": draw(st.booleans()),
    }


@settings(max_examples=40, deadline=None)
@given(_cases())
def test_conv_is_what_the_loops_give(case: dict[str, Any]) -> None:
    x = mil.numbers(2, 4, *case["sizes"], seed=1)
    weight = mil.numbers(6, 4 // case["groups"], *case["kernel"], seed=2)
    bias = mil.numbers(6) if case["bias"] else None
    spans = [(k - 1) * d + 1 for k, d in zip(case["kernel"], case["dilations"], strict=True)]
    pairs = _pairs(case["pad_type"], case["pad"], case["sizes"], spans, case["strides"])
    want = _conv(x, weight, pairs, case["strides"], case["dilations"], case["groups"])
    named = {key: case[key] for key in ("strides", "dilations", "groups", "pad_type", "pad")}
    got = mil.ours("conv", x=x, weight=weight, bias=bias, **named)
    extra = 0 if bias is None else bias.reshape(-1, *[1] * len(spans))
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want + extra, rtol=1e-4, atol=1e-5)


def test_where_the_odd_row_of_padding_lies() -> None:
    x, weight = mil.floats([[[1, 2, 3, 4]]]), mil.floats([[[1, 10]]])
    np.testing.assert_array_equal(mil.ours("conv", x=x, weight=weight, pad_type="same"), [[[21, 32, 43, 4]]])
    np.testing.assert_array_equal(mil.ours("conv", x=x, weight=weight, pad_type="same_lower"), [[[10, 21, 32, 43]]])


def test_same_with_a_stride_longer_than_the_kernel() -> None:
    x, weight = mil.floats([[[1, 2, 3, 4]]]), mil.floats([[[5]]])
    np.testing.assert_array_equal(mil.ours("conv", x=x, weight=weight, pad_type="same", strides=[3]), [[[5, 20]]])


def test_the_padding_goes_axis_by_axis() -> None:
    x, weight = mil.floats([[[[1]]]]), mil.floats([[[[1]]]])
    got = mil.ours("conv", x=x, weight=weight, pad_type="custom", pad=[1, 2, 3, 0])
    want = np.zeros((1, 1, 4, 4))
    want[0, 0, 1, 3] = 1
    np.testing.assert_array_equal(got, want)


def test_without_a_word_there_is_no_padding_stride_or_dilation() -> None:
    x, weight = mil.numbers(1, 2, 4, 5), mil.numbers(3, 2, 2, 3)
    want = _conv(x, weight, [(0, 0), (0, 0)], [1, 1], [1, 1], 1)
    np.testing.assert_allclose(mil.ours("conv", x=x, weight=weight), want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mil.ours("conv", x=x, weight=weight, pad=[1] * 4), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("operator", ["conv", "conv_transpose"])
def test_an_unknown_padding_is_refused(operator: str) -> None:
    with pytest.raises(NotImplementedError):
        mil.ours(operator, x=np.ones((1, 1, 3), np.float32), weight=np.ones((1, 1, 2), np.float32), pad_type="full")


@pytest.mark.parametrize("per_output", [True, False])
def test_conv_quantized(per_output: bool) -> None:
    stored = np.arange(24, dtype=np.uint8).reshape(3, 2, 2, 2) * 10
    scale, offset = (
        (mil.floats([0.1, 0.2, 0.3]), mil.floats([-1, 0, 1])) if per_output else (mil.floats(0.1), mil.floats(-1))
    )
    x, bias = mil.numbers(1, 2, 4, 3), np.array([1, 2, 3], np.uint8)
    wide = stored * np.broadcast_to(scale, 3).reshape(3, 1, 1, 1) + np.broadcast_to(offset, 3).reshape(3, 1, 1, 1)
    want = _conv(x, wide, [(1, 1), (0, 0)], [1, 2], [1, 1], 1) + bias.reshape(3, 1, 1)
    got = mil.ours(
        "conv_quantized",
        x=x,
        weight=stored,
        bias=bias,
        quantization_type="linear",
        nbits=8,
        quant_scale=scale,
        quant_bias=offset,
        strides=[1, 2],
        pad_type="custom",
        pad=[1, 1, 0, 0],
        dilations=[1, 1],
        groups=1,
    )
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "bits"), [("lut", 8), ("linear", 4)])
def test_other_quantized_weights_are_refused(kind: str, bits: int) -> None:
    x, weight = np.ones((1, 1, 1), np.float32), np.ones((1, 1, 1), np.uint8)
    with pytest.raises(NotImplementedError):
        mil.ours(
            "conv_quantized", x=x, weight=weight, quantization_type=kind, nbits=bits, quant_scale=1.0, quant_bias=0.0
        )


@settings(max_examples=40, deadline=None)
@given(_cases())
def test_conv_transpose_is_what_the_loops_give(case: dict[str, Any]) -> None:
    pad_type = case["pad_type"].removesuffix("_lower")
    x = mil.numbers(2, 4, *case["sizes"], seed=1)
    weight = mil.numbers(4, 3, *case["kernel"], seed=2)
    bias = mil.numbers(3 * case["groups"]) if case["bias"] else None
    whole = _spread(x, weight, case["strides"], case["dilations"], case["groups"])
    if bias is not None:
        whole += bias.reshape(-1, *[1] * len(case["kernel"]))
    for axis in range(len(case["kernel"])):
        size = whole.shape[2 + axis]
        begin, length = 0, size
        if pad_type == "custom":
            begin, length = case["pad"][2 * axis], size - case["pad"][2 * axis] - case["pad"][2 * axis + 1]
        if pad_type == "same":
            length = case["sizes"][axis] * case["strides"][axis]
            begin = max(0, size - length) // 2
        if length <= 0 or length > size:
            return
        whole = np.take(whole, range(begin, begin + length), axis=2 + axis)
    named = {key: case[key] for key in ("strides", "dilations", "groups", "pad")}
    got = mil.ours("conv_transpose", x=x, weight=weight, bias=bias, pad_type=pad_type, **named)
    assert got.shape == whole.shape
    np.testing.assert_allclose(got, whole, rtol=1e-4, atol=1e-5)


# The cut is longer than the whole product.
@example(
    {
        "groups": 1,
        "kernel": [1],
        "dilations": [1],
        "strides": [3],
        "sizes": [1],
        "pad_type": "custom",
        "pad": [2, 0],
        "bias": False,
    }
)
@settings(max_examples=40, deadline=None)
@given(_cases())
def test_conv_transpose_is_the_gradient_of_conv(case: dict[str, Any]) -> None:
    if case["pad_type"] == "same_lower":
        return
    y = mil.numbers(1, 4, *case["sizes"], seed=1)
    weight = mil.numbers(2, 4 // case["groups"], *case["kernel"], seed=2)
    spans = [(k - 1) * d + 1 for k, d in zip(case["kernel"], case["dilations"], strict=True)]
    pairs = _pairs(case["pad_type"], case["pad"], case["sizes"], spans, case["strides"])
    made = _conv(y, weight, pairs, case["strides"], case["dilations"], case["groups"])
    x = mil.numbers(*made.shape, seed=3)
    named = {key: case[key] for key in ("strides", "dilations", "groups", "pad_type", "pad")}
    back = mil.ours("conv_transpose", x=x, weight=weight, output_shape=list(y.shape), **named)
    assert back.shape == y.shape
    assert (back * y).sum() == pytest.approx((x * made).sum(), rel=1e-3, abs=1e-3)


def test_where_no_input_reaches_there_is_the_bias() -> None:
    x, weight = mil.floats([[[2, 3]]]), mil.floats([[[10]]])
    got = mil.ours("conv_transpose", x=x, weight=weight, bias=mil.floats([1]), pad_type="same", strides=[3])
    np.testing.assert_array_equal(got, [[[21, 1, 1, 31, 1, 1]]])


def test_conv_transpose_has_its_inputs_first() -> None:
    x, weight = mil.floats([[[1], [10]]]), mil.floats([[[1], [2]], [[3], [4]]])
    np.testing.assert_array_equal(mil.ours("conv_transpose", x=x, weight=weight), [[[31], [42]]])


@pytest.mark.parametrize("precision", ["FLOAT32", "FLOAT16"])
def test_a_saved_program(tmp_path: Path, precision: str) -> None:
    first, second = mil.numbers(4, 3, 3, 2, seed=1, scale=0.3), mil.numbers(4, 2, 2, 2, seed=2, scale=0.3)
    third, bias = mil.numbers(4, 3, 3, 3, seed=3, scale=0.3), mil.numbers(4)

    def body(mb: Any, x: Any) -> Any:
        y = mb.conv(x=x, weight=first, bias=bias, pad_type="custom", pad=[2, 0, 1, 2], strides=[2, 1])
        y = mb.conv(x=y, weight=second, pad_type="same_lower", groups=2, dilations=[1, 2])
        return mb.conv_transpose(x=y, weight=third, pad_type="same", strides=[2, 2])

    program = programs.load(mil.program(body, {"x": (2, 3, 7, 6)}, "iOS17", precision, tmp_path))
    assert {"conv", "conv_transpose"} <= {o.kind for o in program.operations}
    x = mil.numbers(2, 3, 7, 6)
    y = _conv(x, first, [(2, 0), (1, 2)], [2, 1], [1, 1], 1) + bias.reshape(-1, 1, 1)
    y = _conv(y, second, [(1, 0), (1, 1)], [1, 1], [1, 2], 2)
    want = _spread(y, third, [2, 2], [1, 1], 1)[:, :, : 2 * y.shape[2], : 2 * y.shape[3]]
    (result,) = Executor(program).run({"x": x}).values()
    assert result.shape == want.shape
    np.testing.assert_allclose(result.numpy(), want, atol=1e-4 if precision == "FLOAT32" else 0.03)


def test_a_convolution_in_float16_is_summed_in_float32(tmp_path: Path) -> None:
    weight = mil.numbers(2, 64, 3, 3, seed=1)

    def body(mb: Any, x: Any) -> Any:
        return mb.conv(x=x, weight=weight, pad_type="same")

    program = programs.load(mil.program(body, {"x": (1, 64, 5, 5)}, "iOS17", "FLOAT16", tmp_path))
    x = mil.numbers(1, 64, 5, 5)
    left, right = (torch.from_numpy(array).half().double() for array in (x, weight))
    exact = torch.nn.functional.conv2d(left, right, padding=1).numpy()
    (result,) = Executor(program).run({"x": x}).values()
    # Half a unit of float16, and what float32 sums lose.
    np.testing.assert_allclose(result.numpy(), exact, rtol=2**-11 * 1.01, atol=1e-4)
    (overflow,) = Executor(program).run({"x": np.full_like(x, 6e4)}).values()
    assert np.isinf(overflow.numpy()).any()
