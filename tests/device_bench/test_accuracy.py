"""The figures are those of the literature, and the counting is by the book."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_edge.device_bench import ranking
from evit_edge.device_bench.accuracy import mcnemar, paired, share, wilson

from .conftest import SIZE

COUNT = 150
IMAGES = np.random.default_rng(3).integers(0, 256, (COUNT, SIZE, SIZE, 3), dtype=np.uint8)

counts = st.integers(1, 5000).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count)))
small = st.integers(0, 400)


# R. G. Newcombe 1998, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17, table I,
# method 3.
@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_the_published_one(right: int, count: int, low: float, high: float) -> None:
    found = wilson(right, count)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


@given(counts)
def test_the_interval_holds_the_share_and_stays_within_0_and_1(of: tuple[int, int]) -> None:
    found = wilson(*of)
    assert 0 <= found.low <= found.share <= found.high <= 1
    assert found.low < found.high


@given(counts)
def test_right_and_wrong_are_mirror_images(of: tuple[int, int]) -> None:
    right, count = of
    found, mirrored = wilson(right, count), wilson(count - right, count)
    assert (found.low, found.high) == pytest.approx((1 - mirrored.high, 1 - mirrored.low), abs=1e-12)


@given(counts)
def test_its_ends_are_where_the_score_test_stops_to_reject(of: tuple[int, int]) -> None:
    found = wilson(*of)
    for end in {found.low, found.high} - {0.0, 1.0}:
        score = abs(found.share - end) / math.sqrt(end * (1 - end) / found.count)
        assert score == pytest.approx(1.959964, abs=1e-4)


@given(counts)
def test_more_images_make_it_narrower(of: tuple[int, int]) -> None:
    one, ten = wilson(*of), wilson(10 * of[0], 10 * of[1])
    assert ten.high - ten.low < one.high - one.low


# 1 and 9, 10 and 0: 22/1024 and 2/1024 by hand.
@pytest.mark.parametrize(
    ("lost", "gained", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 5, 1.0), (1, 9, 22 / 1024), (10, 0, 2 / 1024), (0, 6, 1 / 32)],
)
def test_the_paired_test_has_the_values_counted_by_hand(lost: int, gained: int, p: float) -> None:
    assert mcnemar(lost, gained) == p


@pytest.mark.parametrize("count", range(1, 12))
def test_the_paired_test_is_the_share_of_all_coin_throws_that_are_as_uneven(count: int) -> None:
    heads = [sum(throw) for throw in product((0, 1), repeat=count)]
    for lost in range(count + 1):
        uneven = [abs(2 * each - count) >= abs(2 * lost - count) for each in heads]
        assert mcnemar(lost, count - lost) == sum(uneven) / 2**count


@given(small, small)
def test_the_paired_test_is_symmetric_and_a_probability(lost: int, gained: int) -> None:
    p = mcnemar(lost, gained)
    assert 0 < p <= 1
    assert p == mcnemar(gained, lost)
    assert mcnemar(lost + 1, gained) < p or lost < gained or p == 1


def test_the_paired_test_takes_any_number_of_images() -> None:
    assert mcnemar(25_000, 25_000) == 1
    assert mcnemar(50_000, 0) == 0
    # Close to the normal distribution there.
    z = 300 / math.sqrt(20_000)
    assert mcnemar(10_150, 9_850) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.02)


def test_right_answers_and_changes_are_counted() -> None:
    labels = np.array([0, 1, 2, 3])
    top = np.array([[0, 9], [9, 1], [7, 8], [-1, -1]])
    assert share(top[:, :1], labels).right == 1
    assert share(top, labels).right == 2
    found = paired(top[:, 0], np.array([0, 1, 7, -1]), labels)
    assert (found.lost, found.gained, found.agreeing, found.points, found.p) == (1, 0, 2, -25.0, 1.0)


@given(st.lists(st.tuples(*[st.integers(-1, 3)] * 2, st.integers(0, 3)), min_size=1, max_size=60))
def test_points_are_the_difference_of_the_two_shares(rows: list[tuple[int, int, int]]) -> None:
    first, original, labels = (np.array(column) for column in zip(*rows, strict=True))
    found, mirrored = paired(first, original, labels), paired(original, first, labels)
    shares = [share(each[:, None], labels).share for each in (first, original)]
    assert found.points == pytest.approx(100 * (shares[0] - shares[1]))
    assert (found.lost, found.gained, found.p) == (mirrored.gained, mirrored.lost, mirrored.p)
    assert 0 <= found.agreeing <= len(rows) - found.lost - found.gained


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_image_without_finite_outputs_has_no_class(bad: float) -> None:
    outputs = np.array([[1.0, 3, 2], [1, bad, 2], [0, 0, 0]], np.float32)
    assert ranking.best(outputs) == [[1, 2, 0], [], [0, 1, 2]]
