from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from evit_edge.converters.artifact import Normalisation, Quantization, TensorRecord
from evit_edge.converters.tensors import holds, model_shape, softmax, to_file, to_model
from evit_edge.models.spec import IMAGENET_MEAN, IMAGENET_STD, Preprocess

Layout = Literal["nchw", "nhwc"]
Dtype = Literal["int8", "uint8", "int16"]
LAYOUTS = st.sampled_from(["nchw", "nhwc"])
DTYPES = st.sampled_from(["int8", "uint8", "int16"])
SCALES = st.floats(0.0009765625, 8, width=32)
PREPROCESS = Preprocess(size=8, resize=8)
PIXELS = arrays(np.uint8, (2, 4, 5, 3))
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


def picture() -> TensorRecord:
    """An image input, which the file normalises itself."""
    normalisation = Normalisation(mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return TensorRecord(name="image", shape=(1, 4, 5, 3), dtype="uint8", layout="nhwc", normalisation=normalisation)


def normalised(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return PREPROCESS.normalise(pixels)


def shifted(by: float, channel: int = 0) -> NDArray[np.float32]:
    """Grey, of which one value is `by` pixel values off."""
    values = normalised(np.full((2, 4, 5, 3), 100, np.uint8))
    values[1, channel, 2, 3] += by / 255 / IMAGENET_STD[channel]
    return values


@given(PIXELS)
def test_pixels_come_back_from_what_the_model_is_given(pixels: NDArray[np.uint8]) -> None:
    assert holds(picture(), normalised(pixels))
    there = to_file(picture(), normalised(pixels))
    assert there.dtype == np.uint8
    assert there.flags.c_contiguous
    np.testing.assert_array_equal(there, pixels)


def test_every_value_of_every_channel_is_one_that_a_picture_holds() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    assert holds(picture(), normalised(pixels))
    np.testing.assert_array_equal(to_file(picture(), normalised(pixels)), pixels)


@pytest.mark.parametrize("channel", range(3))
@pytest.mark.parametrize(
    ("by", "held"),
    [(0, True), (1, True), (-100, True), (155, True), (0.5, False), (0.05, False), (-101, False), (156, False)],
)
def test_a_picture_holds_whole_values_from_0_to_255_alone(by: float, held: bool, channel: int) -> None:
    assert holds(picture(), shifted(by, channel)) is held


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_picture_does_not_hold_what_is_no_number(value: float) -> None:
    assert not holds(picture(), shifted(value))


@pytest.mark.parametrize(
    ("by", "pixel"), [(0.4, 100), (0.6, 101), (1e6, 255), (-1e6, 0), (np.inf, 255), (-np.inf, 0), (np.nan, 0)]
)
def test_what_a_picture_does_not_hold_becomes_the_nearest_that_it_does(by: float, pixel: int) -> None:
    there = to_file(picture(), shifted(by))
    assert there[1, 2, 3, 0] == pixel
    there[1, 2, 3, 0] = 100
    assert (there == 100).all()


@given(arrays(np.float32, (2, 3), elements=st.floats(width=32)))
def test_a_file_of_numbers_holds_any(values: NDArray[Any]) -> None:
    assert holds(TensorRecord(name="x", shape=(2, 3), dtype="float32"), values)


@given(arrays(np.float32, (3, 5), elements=st.floats(-80, 80, width=32)), st.floats(-1e3, 1e3))
def test_probabilities_are_positive_and_sum_to_one_whatever_is_added(logits: NDArray[Any], added: float) -> None:
    shares = softmax(logits)
    np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-12)
    assert (shares > 0).all()
    np.testing.assert_allclose(softmax(logits.astype(np.float64) + added), shares, rtol=1e-9)


def test_probabilities_are_those_of_the_definition_and_do_not_overflow() -> None:
    np.testing.assert_allclose(softmax(np.log([[1.0, 2.0, 5.0]])), [[0.125, 0.25, 0.625]])
    np.testing.assert_array_equal(softmax(np.array([[1e4, 0, -1e4]])), [[1, 0, 0]])


@given(arrays(np.float32, (2, 4), elements=st.floats(-10, 10, width=32)))
def test_logits_come_back_from_probabilities_up_to_a_constant(logits: NDArray[Any]) -> None:
    held = TensorRecord(name="logits", shape=(2, 4), dtype="float32", softmax=True)
    back = to_model(held, softmax(logits).astype(np.float32))
    assert back.dtype == np.float32
    off = back - logits
    np.testing.assert_allclose(off, off[:, :1].repeat(4, 1), atol=1e-4)


def test_a_probability_of_zero_has_a_finite_logit() -> None:
    held = TensorRecord(name="logits", shape=(1, 2), dtype="float32", softmax=True)
    back = to_model(held, np.array([[0, 1]], np.float32))
    assert np.isfinite(back).all()
    assert back[0, 0] < -80
