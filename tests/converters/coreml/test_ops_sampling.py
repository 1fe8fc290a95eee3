"""Sampling at coordinates: pixel by pixel, and values that coremltools says Core ML gives."""

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


@pytest.mark.parametrize(
    ("sampling", "padding", "coordinates", "aligned", "want"),
    [
        ("bilinear", "constant", "normalized_minus_one_to_one", True, [8.585, 6.17, 27.5, 6.17]),
        ("nearest", "border", "unnormalized", False, [11, 11, 11, 44]),
        ("bilinear", "reflection", "normalized_zero_to_one", True, [22, 36.3, 11, 34.1]),
        ("nearest", "symmetric", "normalized_zero_to_one", False, [22, 33, 11, 33]),
    ],
)
def test_resample_gives_what_coremltools_expects_of_core_ml(
    sampling: str, padding: str, coordinates: str, aligned: bool, want: list[float]
) -> None:
    places = mil.floats([-1, -2, -3.7, -1, 0, 0, 3.5, 1.2]).reshape(1, 2, 2, 2)
    got = mil.ours(
        "resample",
        x=mil.floats([[[[11, 22], [33, 44]]]]),
        coordinates=places,
        sampling_mode=sampling,
        padding_mode=padding,
        padding_value=6.17 if padding == "constant" else -1.0,
        coordinates_mode=coordinates,
        align_corners=aligned,
    )
    np.testing.assert_allclose(got.ravel(), want, rtol=1e-5)


def _pixel(line: NDArray[Any], at: int, padding: str, value: float) -> float:
    """A pixel of a line that goes on as MIL says."""
    size = len(line)
    if padding == "constant":
        return float(line[at]) if 0 <= at < size else value
    if padding == "border":
        return float(line[min(size - 1, max(0, at))])
    turned = [*line, *line[::-1]] if padding == "symmetric" else [*line, *line[-2:0:-1]]
    return float(turned[at % len(turned)])


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["constant", "border", "reflection", "symmetric"]),
    st.sampled_from(["unnormalized", "normalized_minus_one_to_one", "normalized_zero_to_one"]),
    st.booleans(),
    st.integers(2, 5),
    st.integers(0, 9),
)
def test_resample_along_a_line(padding: str, coordinates: str, aligned: bool, size: int, seed: int) -> None:
    line = mil.numbers(size, seed=seed)
    places = mil.numbers(1, 6, 1, 2, seed=seed, scale=3)
    reach = {"unnormalized": (0, size - 1), "normalized_minus_one_to_one": (-1, 1), "normalized_zero_to_one": (0, 1)}
    low, high = reach[coordinates]
    part = (places[0, :, 0, 1].astype(np.float64) - low) / (high - low)
    edges_at_centers = aligned or coordinates == "unnormalized"
    points = part * (size - 1) if edges_at_centers else part * size - 0.5
    want = [
        sum(
            (1 - abs(point - at)) * _pixel(line, at, padding, 0.75)
            for at in (int(np.floor(point)), int(np.floor(point)) + 1)
        )
        for point in points
    ]
    # All columns are the same, so that the width matters only where it leaves the picture.
    x = np.repeat(line.reshape(1, 1, size, 1), 3, axis=3)
    places[..., 0] = {"unnormalized": 1, "normalized_minus_one_to_one": 0, "normalized_zero_to_one": 0.5}[coordinates]
    got = mil.ours(
        "resample",
        x=x,
        coordinates=places,
        sampling_mode="bilinear",
        padding_mode=padding,
        padding_value=0.75,
        coordinates_mode=coordinates,
        align_corners=aligned,
    )
    np.testing.assert_allclose(got[0, 0, :, 0], want, rtol=1e-3, atol=1e-4)


AFFINE: dict[str, Any] = {
    "sampling_mode": "bilinear",
    "padding_mode": "constant",
    "padding_value": 0.0,
    "coordinates_mode": "normalized_minus_one_to_one",
    "align_corners": True,
}


@pytest.mark.parametrize(
    ("height", "width", "want"),
    [
        (3, 3, [10.752501, 2.5025, 0, 1.98, 0, 0, 0, 0, 0]),
        (2, 5, [10.752501, 5.94, 2.5025, 0.44, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_affine_gives_what_coremltools_expects_of_core_ml(height: int, width: int, want: list[float]) -> None:
    x, matrix = mil.floats([[[[11, 22], [33, 44]]]]), mil.floats([[-1, -2, -3.7, -1, 3.5, 1.2]])
    got = mil.ours("affine", x=x, transform_matrix=matrix, output_height=height, output_width=width, **AFFINE)
    np.testing.assert_allclose(got.ravel(), want, rtol=1e-3, atol=1e-5)


def test_affine_has_a_matrix_for_each_image_or_one_for_all() -> None:
    x = mil.numbers(2, 1, 3, 3)
    mirror, same = [-1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 1, 0]
    named = {"x": x, "output_height": 3, "output_width": 3, **AFFINE}
    each = mil.ours("affine", transform_matrix=mil.floats([mirror, same]), **named)
    np.testing.assert_allclose(each, np.stack([x[0, :, :, ::-1], x[1]]), rtol=1e-5, atol=1e-6)
    both = mil.ours("affine", transform_matrix=mil.floats([mirror]), **named)
    np.testing.assert_allclose(both, x[..., ::-1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "other", [{"align_corners": False}, {"padding_value": 1.0}, {"coordinates_mode": "unnormalized"}]
)
def test_affine_refuses_what_core_ml_does_not_know(other: dict[str, Any]) -> None:
    named = {"x": mil.numbers(1, 1, 2, 2), "transform_matrix": mil.numbers(1, 6), "output_height": 2, "output_width": 2}
    with pytest.raises(NotImplementedError):
        mil.ours("affine", **named, **{**AFFINE, **other})


def test_a_saved_program(tmp_path: Path) -> None:
    half = {"padding_mode": "border", "padding_value": 0.0, "coordinates_mode": "unnormalized", "align_corners": False}

    def body(mb: Any, x: Any, places: Any) -> Any:
        y = mb.affine(
            x=x, transform_matrix=mil.floats([[-1, 0, 0, 0, 1, 0]]), output_height=3, output_width=4, **AFFINE
        )
        return mb.resample(x=y, coordinates=places, sampling_mode="bilinear", **half)

    path = mil.program(body, {"x": (1, 2, 3, 4), "places": (1, 1, 2, 2)}, "iOS16", "FLOAT32", tmp_path)
    x = mil.numbers(1, 2, 3, 4)
    (result,) = Executor(programs.load(path)).run({"x": x, "places": mil.floats([[[[0.5, 2], [9, 1]]]])}).values()
    want = np.stack([(x[:, :, 2, 3] + x[:, :, 2, 2]) / 2, x[:, :, 1, 0]], -1)[:, :, None]
    np.testing.assert_allclose(result.numpy(), want, rtol=1e-5, atol=1e-6)
