"""The operators that resize: MIL's grids by hand and by loops, and values that coremltools says Core ML gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from evit_edge.converters.coreml import program as programs
from evit_edge.converters.coreml.executor import Executor

from . import mil

# The grids that MIL's documentation prints for two pixels at 0 and 1.
PRINTED: dict[tuple[str, int], list[float]] = {
    ("UNALIGN_CORNERS", 5): [0, 0.1, 0.5, 0.9, 1],
    ("STRICT_ALIGN_CORNERS", 5): [0, 0.25, 0.5, 0.75, 1],
    ("ALIGN_CORNERS", 5): [0, 0.25, 0.5, 0.75, 1],
    ("DEFAULT", 5): [0, 0.4, 0.8, 1, 1],
    ("OFFSET_CORNERS", 5): [0.1, 0.3, 0.5, 0.7, 0.9],
    ("UNALIGN_CORNERS", 6): [0, 0, 1 / 3, 2 / 3, 1, 1],
    ("STRICT_ALIGN_CORNERS", 6): [0, 0.2, 0.4, 0.6, 0.8, 1],
    ("DEFAULT", 6): [0, 1 / 3, 2 / 3, 1, 1, 1],
    ("OFFSET_CORNERS", 6): [1 / 12, 0.25, 5 / 12, 7 / 12, 0.75, 11 / 12],
    ("STRICT_ALIGN_CORNERS", 1): [0],
    ("ALIGN_CORNERS", 1): [0.5],
    ("DEFAULT", 1): [0],
    ("OFFSET_CORNERS", 1): [0.5],
    ("UNALIGN_CORNERS", 1): [0.5],
}
MODES = ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS")
SIZES = st.integers(1, 7)


def _grid(mode: str, size: int, out: int) -> NDArray[Any]:
    """MIL's pseudocode."""
    i = np.arange(out)
    if mode == "ALIGN_CORNERS" and out == 1:
        return np.array([(size - 1) / 2])
    if mode == "OFFSET_CORNERS":
        delta = max(1, size - 1) / out
        points = 0.5 * delta + i * delta
    elif mode == "UNALIGN_CORNERS":
        points = i * (size / out) + 0.5 * (size / out) - 0.5
    else:
        span = size - size / out if mode == "DEFAULT" else size - 1
        points = i * (span / max(1, out - 1))
    return np.minimum(size - 1, np.maximum(0, points))


def _bilinear(x: NDArray[Any], rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[Any]:
    """Each sample by the four pixels around it."""
    result = np.empty((*x.shape[:-2], len(rows), len(columns)))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            total = np.zeros(x.shape[:-2])
            for r in range(x.shape[-2]):
                for c in range(x.shape[-1]):
                    total += max(0, 1 - abs(row - r)) * max(0, 1 - abs(column - c)) * x[..., r, c]
            result[..., i, j] = total
    return result


@pytest.mark.parametrize(("mode", "out"), PRINTED)
def test_the_grids_are_those_of_the_documentation(mode: str, out: int) -> None:
    x = mil.floats([[[0, 1]]])
    got = mil.ours("resize_bilinear", x=x, target_size_height=1, target_size_width=out, sampling_mode=mode)
    np.testing.assert_allclose(got, [[PRINTED[mode, out]]], rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.tuples(SIZES, SIZES), st.tuples(SIZES, SIZES), st.sampled_from(MODES))
def test_resize_bilinear(size: tuple[int, int], out: tuple[int, int], mode: str) -> None:
    x = mil.numbers(2, 2, *size)
    want = _bilinear(x, _grid(mode, size[0], out[0]), _grid(mode, size[1], out[1]))
    named = {"target_size_height": out[0], "target_size_width": out[1]}
    np.testing.assert_allclose(
        mil.ours("resize_bilinear", x=x, sampling_mode=mode, **named), want, rtol=1e-4, atol=1e-5
    )
    if mode == "DEFAULT":
        np.testing.assert_allclose(mil.ours("resize_bilinear", x=x, **named), want, rtol=1e-4, atol=1e-5)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(KeyError):
        mil.ours("resize_bilinear", x=mil.numbers(1, 2, 2), sampling_mode="CORNERS")


@settings(max_examples=30, deadline=None)
@given(st.tuples(SIZES, SIZES), st.tuples(*[st.sampled_from([0.5, 1.0, 1.5, 2.0, 2.3, 3.0])] * 2), st.booleans())
def test_upsample_bilinear_is_pytorchs_with_the_factor_recomputed(
    size: tuple[int, int], factors: tuple[float, float], aligned: bool
) -> None:
    out = [int(n * np.float32(factor)) for n, factor in zip(size, factors, strict=True)]
    if 0 in out:
        return
    x = mil.numbers(1, 2, *size)
    want = torch.nn.functional.interpolate(torch.from_numpy(x), out, mode="bilinear", align_corners=aligned)
    named = {"scale_factor_height": factors[0], "scale_factor_width": factors[1]}
    np.testing.assert_allclose(
        mil.ours("upsample_bilinear", x=x, align_corners=aligned, **named), want, rtol=1e-4, atol=1e-5
    )
    if aligned:
        np.testing.assert_allclose(mil.ours("upsample_bilinear", x=x, **named), want, rtol=1e-4, atol=1e-5)


def test_half_pixel_centers() -> None:
    x = mil.floats([[[0, 1]]])
    named: dict[str, Any] = {"x": x, "scale_factor_width": 2.5, "align_corners": False}
    np.testing.assert_allclose(mil.ours("upsample_bilinear", **named), [[PRINTED["UNALIGN_CORNERS", 5]]], rtol=1e-6)
    centered = mil.ours("upsample_bilinear", half_pixel_centers=True, **named)
    np.testing.assert_allclose(centered, [[PRINTED["UNALIGN_CORNERS", 5]]], rtol=1e-6)
    plain = mil.ours("upsample_bilinear", half_pixel_centers=False, **named)
    np.testing.assert_allclose(plain, [[PRINTED["DEFAULT", 5]]], rtol=1e-6)
    with pytest.raises(NotImplementedError):
        mil.ours("upsample_bilinear", x=x, align_corners=True, half_pixel_centers=True)


@settings(max_examples=30, deadline=None)
@given(st.tuples(SIZES, SIZES), st.tuples(SIZES, SIZES))
def test_nearest_of_whole_factors_repeats_the_pixels(size: tuple[int, int], factors: tuple[int, int]) -> None:
    x = mil.numbers(2, *size)
    want = x.repeat(factors[0], axis=1).repeat(factors[1], axis=2)
    named = {"scale_factor_height": factors[0], "scale_factor_width": float(factors[1])}
    np.testing.assert_array_equal(mil.ours("upsample_nearest_neighbor", x=x, **named), want)
    sizes = {"target_size_height": want.shape[1], "target_size_width": want.shape[2]}
    np.testing.assert_array_equal(mil.ours("resize_nearest_neighbor", x=x, **sizes), want)
    whole = mil.ours("resize", x=x, shape=list(want.shape), resized_dims=2, interpolation_mode="NEAREST_NEIGHBOR")
    np.testing.assert_array_equal(whole, want)


@settings(max_examples=30, deadline=None)
@given(st.tuples(SIZES, SIZES), st.tuples(SIZES, SIZES))
def test_nearest_of_broken_factors_is_pytorchs(size: tuple[int, int], out: tuple[int, int]) -> None:
    x = mil.numbers(1, 1, *size)
    sizes = {"target_size_height": out[0], "target_size_width": out[1]}
    centered = torch.nn.functional.interpolate(torch.from_numpy(x), out, mode="nearest-exact")
    np.testing.assert_array_equal(mil.ours("resize_nearest_neighbor", x=x, **sizes), centered)
    # As coremltools' frontends write the factor of a size.
    factors = [(new + 1e-4) / old if new % old else new / old for new, old in zip(out, size, strict=True)]
    named = {"scale_factor_height": factors[0], "scale_factor_width": factors[1]}
    corners = torch.nn.functional.interpolate(torch.from_numpy(x), out, mode="nearest")
    np.testing.assert_array_equal(mil.ours("upsample_nearest_neighbor", x=x, **named), corners)


def test_nearest_values_that_coremltools_expects_of_core_ml() -> None:
    x = mil.floats([[[[1.5, -2.5, 3.5]]]])
    small = mil.ours("upsample_nearest_neighbor", x=x, scale_factor_height=3.17, scale_factor_width=0.67)
    np.testing.assert_array_equal(small, [[[[1.5, -2.5]] * 3]])
    same = mil.ours("upsample_nearest_neighbor", x=x, scale_factor_height=2.0, scale_factor_width=1.12)
    np.testing.assert_array_equal(same, [[[[1.5, -2.5, 3.5]] * 2]])
    tall = mil.floats([-6.174, 9.371]).reshape(1, 1, 1, 2, 1)
    got = mil.ours("resize", x=tall, shape=[1, 1, 3, 2], resized_dims=2, interpolation_mode="NEAREST_NEIGHBOR")
    np.testing.assert_array_equal(got.reshape(3, 2), mil.floats([[-6.174] * 2, [9.371] * 2, [9.371] * 2]))


@pytest.mark.parametrize("mode", MODES)
def test_resize_takes_the_last_sizes_and_keeps_zeros(mode: str) -> None:
    x = mil.numbers(1, 2, 3, 4)
    want = _bilinear(x, _grid(mode, 3, 6), _grid(mode, 4, 5))
    named = {"resized_dims": 2, "sampling_mode": mode}
    np.testing.assert_allclose(mil.ours("resize", x=x, shape=[9, 6, 5], **named), want, rtol=1e-4, atol=1e-5)
    kept = _bilinear(x, _grid(mode, 3, 3), _grid(mode, 4, 5))
    np.testing.assert_allclose(mil.ours("resize", x=x, shape=[0, 5], **named), kept, rtol=1e-4, atol=1e-5)


def test_resize_of_three_axes() -> None:
    x = mil.numbers(2, 3, 4)
    got = mil.ours("resize", x=x, shape=[3, 3, 4], resized_dims=3, sampling_mode="STRICT_ALIGN_CORNERS")
    np.testing.assert_allclose(got, np.stack([x[0], (x[0] + x[1]) / 2, x[1]]), rtol=1e-5, atol=1e-6)


def test_resize_refuses_what_mil_does_not_define() -> None:
    named: dict[str, Any] = {"shape": [4, 4], "resized_dims": 2}
    with pytest.raises(NotImplementedError):
        mil.ours("resize", x=mil.numbers(1, 2, 2, dtype="int32"), **named)
    with pytest.raises(NotImplementedError):
        mil.ours(
            "resize",
            x=mil.numbers(1, 2, 2),
            interpolation_mode="NEAREST_NEIGHBOR",
            sampling_mode="ALIGN_CORNERS",
            **named,
        )


def test_crop_takes_the_height_first() -> None:
    x = mil.numbers(2, 5, 6)
    np.testing.assert_array_equal(mil.ours("crop", x=x, crop_height=[1, 0], crop_width=[2, 3]), x[:, 1:, 2:3])
    np.testing.assert_array_equal(mil.ours("crop", x=x, crop_height=[0, 0], crop_width=[0, 0]), x)


@pytest.mark.parametrize("precision", ["FLOAT32", "FLOAT16"])
def test_a_saved_program(tmp_path: Path, precision: str) -> None:
    def body(mb: Any, x: Any) -> Any:
        y = mb.resize_bilinear(x=x, target_size_height=6, target_size_width=7, sampling_mode="UNALIGN_CORNERS")
        y = mb.upsample_bilinear(x=y, scale_factor_height=2.0, scale_factor_width=1.5, align_corners=False)
        y = mb.crop(x=y, crop_height=[1, 2], crop_width=[0, 3])
        y = mb.resize(x=y, shape=[1, 0, 10], resized_dims=np.uint32(2), sampling_mode="DEFAULT")
        return mb.upsample_nearest_neighbor(x=y, scale_factor_height=2, scale_factor_width=1)

    program = programs.load(mil.program(body, {"x": (1, 2, 4, 5)}, "iOS17", precision, tmp_path))
    x = mil.numbers(1, 2, 4, 5)
    y = _bilinear(x, _grid("UNALIGN_CORNERS", 4, 6), _grid("UNALIGN_CORNERS", 5, 7))
    y = _bilinear(y, _grid("UNALIGN_CORNERS", 6, 12), _grid("UNALIGN_CORNERS", 7, 10))[..., 1:10, :7]
    want = _bilinear(y, np.arange(9), _grid("DEFAULT", 7, 10)).repeat(2, axis=2)
    (result,) = Executor(program).run({"x": x}).values()
    assert result.shape == want.shape
    np.testing.assert_allclose(result.numpy(), want, atol=1e-5 if precision == "FLOAT32" else 5e-3)
