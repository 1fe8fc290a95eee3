"""Ranges for integers: each method does what its name says, in any order and number of images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from evit_edge.converters.histogram import BINS, LEVELS, NAMES, OUTLIERS, Extremes, Histogram, tally

Array = NDArray[np.float32]

SOME = arrays(np.float32, st.integers(1, 200), elements=st.floats(-1e4, 1e4, width=32))
COUNTED = [name for name in NAMES if name != "minmax"]


def filled(method: str, *parts: Array) -> Extremes:
    seen = tally(method)
    for part in parts:
        seen.add(part)
    return seen


def squared_error(values: Array, bounds: tuple[float, float]) -> float:
    low, high = bounds
    step = (high - low) / (LEVELS - 1)
    kept = np.round((values.astype(np.float64).clip(low, high) - low) / step) * step + low
    return float(((values - kept) ** 2).sum())


def heavy_tailed(count: int = 200_000, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_t(3, count).astype(np.float32)


@given(st.lists(SOME, min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_minmax_is_the_least_and_the_largest(parts: list[Array]) -> None:
    everything = np.concatenate(parts)
    assert filled("minmax", *parts).bounds == (everything.min(), everything.max())


@pytest.mark.parametrize("method", COUNTED)
@given(parts=st.lists(SOME, min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_a_range_has_zero_in_it_and_lies_within_the_values(method: str, parts: list[Array]) -> None:
    everything = np.concatenate(parts)
    low, high = filled(method, *parts).bounds
    assert min(float(everything.min()), 0) <= low <= 0 <= high <= max(float(everything.max()), 0)


@pytest.mark.parametrize("method", NAMES)
def test_the_order_of_the_images_and_their_number_change_nothing(method: str) -> None:
    values = heavy_tailed(8000)
    parts = np.array_split(values, 37)
    whole = filled(method, values).bounds
    assert filled(method, *parts).bounds == pytest.approx(whole, rel=4 / BINS)
    assert filled(method, *parts[::-1]).bounds == pytest.approx(whole, rel=4 / BINS)


def test_the_memory_is_the_same_at_any_number_of_images() -> None:
    seen = Histogram("mse")
    for scale in (1e-30, 1e-3, 1.0, 1e3, 1e30):
        seen.add(np.float32(scale) * heavy_tailed(1000))
        counts, _ = seen.bins
        assert len(counts) <= BINS
    assert sum(seen.bins[0]) == 5000


def test_percentile_leaves_out_the_same_share_at_both_ends() -> None:
    values = heavy_tailed()
    low, high = filled("percentile", values).bounds
    wanted = np.quantile(values, [OUTLIERS, 1 - OUTLIERS], method="inverted_cdf")
    # A bin's width is the resolution.
    width = 2 * np.abs(values).max() * 2 / BINS
    assert abs(low - wanted[0]) < width
    assert abs(high - wanted[1]) < width
    assert high < values.max() / 2


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("one_sided", [False, True])
def test_mse_has_the_least_error_of_all_ranges(seed: int, one_sided: bool) -> None:
    values = heavy_tailed(seed=seed)
    values = np.abs(values) if one_sided else values
    bounds = filled("mse", values).bounds
    full = min(float(values.min()), 0.0), float(values.max())
    found = squared_error(values, bounds)
    reach = np.abs(values).max()
    cuts = [(max(full[0], -reach * share), min(full[1], reach * share)) for share in np.linspace(0.2, 1, 161)]
    best = min(squared_error(values, cut) for cut in cuts)
    assert found <= 1.05 * best
    assert found < 0.9 * squared_error(values, full)


def test_entropy_clips_a_lone_outlier_and_keeps_what_is_evenly_spread() -> None:
    rng = np.random.default_rng(0)
    body = rng.normal(0, 1, 100_000).astype(np.float32)
    low, high = filled("entropy", np.append(body, np.float32(30))).bounds
    assert 2 < high < 15
    assert low < 0
    even = rng.uniform(-1, 1, 100_000).astype(np.float32)
    low, high = filled("entropy", even).bounds
    assert low < -0.9
    assert high > 0.9


@pytest.mark.parametrize("method", NAMES)
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 1])
def test_what_is_no_number_is_not_forgotten(method: str, wrong: float, at: int) -> None:
    parts = [heavy_tailed(10), heavy_tailed(10)]
    parts[at][3] = wrong
    assert not np.isfinite(filled(method, *parts).bounds).all()


@pytest.mark.parametrize("method", NAMES)
def test_zeros_have_no_width(method: str) -> None:
    assert filled(method, np.zeros(5, np.float32)).bounds == (0, 0)


def test_entropy_does_not_cut_off_values_that_all_lie_far_from_zero() -> None:
    histogram = Histogram("entropy")
    histogram.add(np.random.default_rng(0).normal(0.7, 0.02, 10_000).astype(np.float32))
    low, high = histogram.bounds
    assert low <= 0
    assert high >= 0.7
