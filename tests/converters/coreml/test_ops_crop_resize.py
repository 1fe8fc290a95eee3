"""crop_resize: the values of a device that coremltools' own tests have, and NumPy's interpolation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .calling import Array, float32, int32, numbers, ours, saved

SIXTEEN = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
ALIGNED: dict[str, Any] = {"sampling_mode": "ALIGN_CORNERS"}
# Box, size, whether normalized, and the values: coremltools 9, mil/ops/tests/iOS14/test_image_resizing.py.
MEASURED: list[tuple[list[float], int, bool, list[float]]] = [
    ([1, 1, 2, 2], 2, False, [6, 7, 10, 11]),
    (
        [1, 1, 2, 2],
        4,
        False,
        [6, 19 / 3, 20 / 3, 7, 22 / 3, 23 / 3, 8, 25 / 3, 26 / 3, 9, 28 / 3, 29 / 3, 10, 31 / 3, 32 / 3, 11],
    ),
    ([1, 1, 2, 2], 1, False, [8.5]),
    ([0, 0, 1 / 3, 1 / 3], 2, True, [1, 2, 5, 6]),
    ([2, 2, 1, 1], 2, False, [11, 10, 7, 6]),
]


@pytest.mark.parametrize(("box", "size", "normalized", "values"), MEASURED)
@pytest.mark.parametrize("form", ["roi of 4", "roi of 5", "boxes"])
def test_values_of_a_device(form: str, box: list[float], size: int, normalized: bool, values: list[float]) -> None:
    asked: dict[str, Any] = {
        "roi of 4": {"roi": float32(box).reshape(1, 1, 4, 1, 1)},
        "roi of 5": {"roi": float32([0, *box]).reshape(1, 1, 5, 1, 1)},
        "boxes": {"boxes": float32([box])},
    }[form]
    found = ours(
        "crop_resize",
        x=SIXTEEN,
        **asked,
        target_height=size,
        target_width=size,
        normalized_coordinates=normalized,
        **ALIGNED,
    )
    assert found.shape == ((1, 1, size, size) if form == "boxes" else (1, 1, 1, size, size))
    np.testing.assert_allclose(found.flatten(), values, atol=1e-4)


def test_values_of_a_device_beyond_the_edge() -> None:
    """From mil/ops/tests/iOS16 and iOS17."""
    boxes = float32([[0.1, 0.3, 1.3, 1.0], [0.5, 1.8, 1.0, 0.3], [0.0, 0.4, 0.6, 0.7]])
    for pad in (0.0, 1.0, 10.0):
        found = ours(
            "crop_resize",
            x=SIXTEEN,
            boxes=boxes,
            box_indices=int32([0, 0, 0]),
            target_height=2,
            target_width=2,
            normalized_coordinates=True,
            pad_value=pad,
            **ALIGNED,
        )
        wanted = [3.1, 5.2, pad, pad, pad, 7.899, pad, 13.9, 2.2, 3.1, 9.4, 10.3]
        np.testing.assert_allclose(found.flatten(), wanted, atol=2e-3)


def cropped(image: Array, box: Array, height: int, width: int, pad: float) -> Array:
    """NumPy's interpolation along rows, then columns; box (top, left, bottom, right) in pixels."""
    top, left, bottom, right = (float(side) for side in box)
    rows = np.linspace(top, bottom, height) if height > 1 else np.array([(top + bottom) / 2])
    columns = np.linspace(left, right, width) if width > 1 else np.array([(left + right) / 2])
    wide = np.array([[np.interp(columns, range(image.shape[2]), row) for row in channel] for channel in image])
    found = np.array([[np.interp(rows, range(image.shape[1]), column) for column in channel.T] for channel in wide])
    found = found.transpose(0, 2, 1)
    found[:, (rows < 0) | (rows > image.shape[1] - 1)] = pad
    found[:, :, (columns < 0) | (columns > image.shape[2] - 1)] = pad
    return found


# Quarters, so that no place is the edge but for rounding.
SIDES = st.lists(st.integers(-4, 24).map(lambda quarter: quarter / 4), min_size=4, max_size=4)


@settings(deadline=None)
@given(st.lists(SIDES, min_size=1, max_size=3), st.integers(1, 5), st.integers(1, 5), st.booleans(), st.integers(0, 9))
def test_numpy_says_the_same(boxes: list[list[float]], height: int, width: int, wide_first: bool, seed: int) -> None:
    x = numbers((2, 3, 5, 6), seed)
    of = np.random.default_rng(seed).integers(0, 2, len(boxes)).astype(np.int32)
    given_boxes = float32(boxes)[:, [1, 0, 3, 2]] if wide_first else float32(boxes)
    common: dict[str, Any] = {
        "target_height": height,
        "target_width": width,
        "box_coordinate_mode": "CORNERS_WIDTH_FIRST" if wide_first else "CORNERS_HEIGHT_FIRST",
        "pad_value": float32(7.0),
        **ALIGNED,
    }
    wanted = np.array(
        [[cropped(image, float32(box), height, width, 7.0) for image in x] for box in boxes], dtype=np.float32
    )
    every = ours("crop_resize", x=x, roi=given_boxes.reshape(-1, 1, 4, 1, 1), **common)
    np.testing.assert_allclose(every, wanted, atol=1e-5)
    own = wanted[range(len(boxes)), of]
    one = ours("crop_resize", x=x, boxes=given_boxes, box_indices=of, **common)
    np.testing.assert_allclose(one, own, atol=1e-5)
    five = np.concatenate([of[:, None].astype(np.float32), given_boxes], axis=1).reshape(-1, 1, 5, 1, 1)
    np.testing.assert_allclose(ours("crop_resize", x=x, roi=five, **common)[:, 0], own, atol=1e-5)


def test_the_far_edge_is_inside() -> None:
    """The last sample lies exactly on it, whatever the spacing."""
    for size in range(2, 40):
        for out in range(2, 12):
            x = np.ones((1, 1, size, size), np.float32)
            found = ours(
                "crop_resize",
                x=x,
                boxes=float32([[0.1, 0.7, 1, 1]]),
                target_height=out,
                target_width=out,
                normalized_coordinates=True,
                **ALIGNED,
            )
            assert (found == 1).all(), (size, out)


def test_coordinates_are_scaled() -> None:
    x, box = numbers((1, 2, 8, 8)), float32([[2, 4, 8, 12]])
    found = ours("crop_resize", x=x, boxes=box, target_height=3, target_width=2, spatial_scale=float32(0.5), **ALIGNED)
    np.testing.assert_allclose(found[0], cropped(x[0], box[0] / 2, 3, 2, 0), atol=1e-6)


def test_boxes_without_indices_are_those_of_the_images_in_turn() -> None:
    x, boxes = numbers((3, 1, 4, 4)), float32([[0, 0, 3, 3], [1, 1, 2, 2]])
    found = ours("crop_resize", x=x, boxes=boxes, target_height=2, target_width=2, **ALIGNED)
    np.testing.assert_array_equal(found[0], x[0][:, ::3, ::3])
    np.testing.assert_array_equal(found[1], x[1][:, 1:3, 1:3])


@pytest.mark.parametrize(
    "other",
    [
        *({"sampling_mode": mode} for mode in ("STRICT_ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS")),
        {},
        *({**ALIGNED, "box_coordinate_mode": f"CENTER_SIZE_{order}_FIRST"} for order in ("HEIGHT", "WIDTH")),
    ],
    ids=str,
)
def test_what_nobody_defines_is_refused(other: dict[str, Any]) -> None:
    with pytest.raises(NotImplementedError, match="crop_resize with "):
        ours("crop_resize", x=SIXTEEN, boxes=float32([[1, 1, 2, 2]]), **other)


@pytest.mark.parametrize(("target", "numbers_a_box"), [("iOS15", 4), ("iOS15", 5), ("iOS16", 5), ("iOS17", 0)])
def test_in_a_saved_program(target: str, numbers_a_box: int, tmp_path: Path) -> None:
    boxes, x = float32([[0, 0, 3, 3], [0.5, 1, 2, 4.5]]), numbers((1, 2, 5, 6))

    def function(mb: Any, x: Any) -> Any:
        asked: dict[str, Any] = {"boxes": boxes, "box_indices": int32([0, 0])}
        if numbers_a_box:
            asked = {"roi": np.pad(boxes, ((0, 0), (numbers_a_box - 4, 0))).reshape(2, 1, numbers_a_box, 1, 1)}
        return mb.crop_resize(x=x, **asked, target_height=int32(2), target_width=int32(3), **ALIGNED)

    (found,) = saved(function, {"x": x}, target, tmp_path)
    wanted = np.array([cropped(x[0], box, 2, 3, 0) for box in boxes])
    assert found.shape == ((2, 1, 2, 2, 3) if numbers_a_box else (2, 2, 2, 3))
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, atol=1e-6)
