from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from evit_edge.converters.artifact import Quantization, TensorRecord
from evit_edge.converters.tensors import model_shape, to_file, to_model

Layout = Literal["nchw", "nhwc"]
Dtype = Literal["int8", "uint8", "int16"]
LAYOUTS = st.sampled_from(["nchw", "nhwc"])
DTYPES = st.sampled_from(["int8", "uint8", "int16"])
SCALES = st.floats(0.0009765625, 8, width=32)
VALUES = arrays(np.float32, (2, 3, 4, 5), elements=st.floats(-1e4, 1e4, width=32))


def record(layout: Layout, dtype: str = "float32", quantization: Quantization | None = None) -> TensorRecord:
    shape = (2, 4, 5, 3) if layout == "nhwc" else (2, 3, 4, 5)
    return TensorRecord(name="image", shape=shape, dtype=dtype, layout=layout, quantization=quantization)


def quantized(layout: Layout, dtype: Dtype, scale: float, share: float) -> tuple[TensorRecord, float, float]:
    """A record with its zero point anywhere in the range, and the smallest and largest number that it can hold."""
    limits = np.iinfo(dtype)
    zero = int(limits.min + share * (limits.max - limits.min))
    held = Quantization(scale=scale, zero_point=zero)
    return record(layout, dtype, held), (limits.min - zero) * scale, (limits.max - zero) * scale


@given(VALUES, LAYOUTS)
def test_floats_come_back_as_they_went_in_either_layout(values: NDArray[Any], layout: Layout) -> None:
    there = to_file(record(layout), values)
    assert there.shape == record(layout).shape
    assert there.flags.c_contiguous
    np.testing.assert_array_equal(to_model(record(layout), there), values)


@given(VALUES, LAYOUTS, DTYPES, SCALES, st.floats(0, 1))
def test_integers_are_within_half_a_step_inside_their_range_and_saturate_outside(
    values: NDArray[Any], layout: Layout, dtype: Dtype, scale: float, share: float
) -> None:
    held, low, high = quantized(layout, dtype, scale, share)
    there = to_file(held, values)
    assert (there.dtype, there.shape) == (np.dtype(dtype), held.shape)
    back = to_model(held, there).astype(np.float64)
    off = np.abs(back - np.clip(values.astype(np.float64), low, high))
    # Half a step, and what float32 itself rounds.
    assert (off <= scale / 2 * (1 + 1e-6) + 1e-6 * np.abs(back)).all()


@given(LAYOUTS, DTYPES, SCALES, st.floats(0, 1))
def test_every_integer_that_a_file_can_hold_comes_back_as_itself(
    layout: Layout, dtype: Dtype, scale: float, share: float
) -> None:
    held, _, _ = quantized(layout, dtype, scale, share)
    limits = np.iinfo(dtype)
    steps = np.linspace(limits.min, limits.max, 120).round().astype(dtype).reshape([side or 0 for side in held.shape])
    np.testing.assert_array_equal(to_file(held, to_model(held, steps)), steps)


def test_zero_is_exact() -> None:
    held, _, _ = quantized("nhwc", "int8", 0.123, 0.3)
    zeros = np.zeros((2, 3, 4, 5), np.float32)
    np.testing.assert_array_equal(to_model(held, to_file(held, zeros)), zeros)


@pytest.mark.parametrize(
    ("value", "step"), [(np.inf, 127), (-np.inf, -128), (1e30, 127), (np.nan, 5), (0.5, 5), (1.5, 7), (-0.5, 5)]
)
def test_what_is_no_number_or_lies_on_the_edge_of_a_step_has_one_answer(value: float, step: int) -> None:
    held = TensorRecord(name="x", shape=(1,), dtype="int8", quantization=Quantization(scale=1, zero_point=5))
    assert to_file(held, np.array([value], np.float32)).tolist() == [step]


@pytest.mark.parametrize(
    ("shape", "layout", "expected"),
    [
        ((1, 224, 224, 3), "nhwc", (1, 3, 224, 224)),
        ((None, 96, 64, 3), "nhwc", (None, 3, 96, 64)),
        ((1, 3, 224, 224), "nchw", (1, 3, 224, 224)),
        ((1, 10), "nhwc", (1, 10)),
        ((None,), "nchw", (None,)),
    ],
)
def test_the_models_shape_has_its_channels_second(
    shape: tuple[int | None, ...], layout: Layout, expected: tuple[int | None, ...]
) -> None:
    assert model_shape(TensorRecord(name="x", shape=shape, dtype="float32", layout=layout)) == expected


@pytest.mark.parametrize("shape", [(7, 10), (7,), (7, 4, 5)])
def test_tensors_without_a_picture_in_them_are_not_turned(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    held = TensorRecord(name="x", shape=shape, dtype="float32", layout="nhwc")
    np.testing.assert_array_equal(to_file(held, values), values)
    np.testing.assert_array_equal(to_model(held, values), values)
