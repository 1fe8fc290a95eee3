"""What marks an operator: errors that no rounding explains, wherever they come from, and none that are meant."""

import numpy as np
import pytest

from evit_edge.converters import loss_marks as marks
from evit_edge.converters.loss_marks import Kept
from evit_edge.converters.losses import Grid, WeightLoss


def grid(low: float, high: float) -> Grid:
    return Grid(dtype="int8", low=low, high=high, step=(high - low) / 255)


@pytest.mark.parametrize(
    ("isolated_db", "steps", "marked"),
    [(30, 0.5, False), (3, 0.5, False), (3, 5, True), (12, 5, False), (40, 17, True)],
    ids=["rounding", "values smaller than a step", "an error of its own", "cancelled weights", "a wrong bias"],
)
def test_an_error_of_a_few_steps_is_what_rounding_costs(isolated_db: float, steps: float, marked: bool) -> None:
    assert bool(marks.of_rounding(Kept(isolated_db=isolated_db, steps=steps))) is marked


@pytest.mark.parametrize(("reach", "marked"), [(1.0, False), (7.9, False), (8.1, True)])
def test_integers_that_are_hardly_used_are_marked(reach: float, marked: bool) -> None:
    assert bool(marks.of_width(grid(-reach, reach), (-1.0, 1.0))) is marked


def test_a_result_that_is_always_zero_is_not_marked() -> None:
    assert marks.of_width(grid(-1, 1), (0.0, 0.0)) == ""


@pytest.mark.parametrize(
    ("method", "clipped", "isolated_db", "reach", "marked"),
    [
        ("minmax", 0.0009, 40, 0.9, False),
        ("minmax", 0.0011, 40, 0.9, True),
        ("percentile", 0.01, 5, 0.1, False),
        ("percentile", 0.03, 12, 0.1, True),
        ("mse", 0.03, 12, 0.9, False),
        ("mse", 0.03, 8, 0.9, True),
        ("entropy", 0.5, 5, 0.21, False),
        ("entropy", 0.5, 5, 0.06, True),
        ("", 0.03, 12, 0.9, False),
        ("", 0.03, 8, 0.9, True),
    ],
)
def test_values_are_cut_off_as_the_method_of_calibration_means_it(
    method: str, clipped: float, isolated_db: float, reach: float, marked: bool
) -> None:
    said = marks.of_clipping(grid(0, reach), (0.0, 1.0), clipped, isolated_db=isolated_db, method=method)
    assert bool(said) is marked
    assert not said or f"held 0 to {reach:.4g}, seen 0 to 1" in said


@pytest.mark.parametrize(
    ("dtype", "lowest_db", "marked"), [("int8", 14, True), ("uint8", 16, False), ("lut4", 9, False)]
)
def test_only_weights_of_8_bits_have_to_be_near(dtype: str, lowest_db: float, marked: bool) -> None:
    weight = WeightLoss(name="w", dtype=dtype, sqnr_db=40, worst_channel=7, worst_channel_db=lowest_db)
    assert marks.of_weights(weight) == (f"channel 7 of the weights w has {lowest_db:.1f} dB" if marked else "")


def test_the_scale_of_a_bias_is_that_of_its_products() -> None:
    x, weight = np.array([0.5]), np.array([0.1, 0.2])
    assert marks.of_bias(x, weight, x * weight) == ""
    assert marks.of_bias(x, weight, x * weight * [1, 2]) == "the bias has 2 × the scale of its products"
