"""The real images that every installation has."""

from __future__ import annotations

import numpy as np
import pytest

from evit_edge.models.errors import Unsupported
from evit_edge.models.sample_images import digits, sample_digits, sample_photographs
from evit_edge.models.spec import Preprocess

DIGITS = Preprocess(size=16, resize=16, interpolation="bilinear")


def test_training_and_held_out_digits_are_disjoint_and_both_have_every_class() -> None:
    (held_out, held_out_labels), (training, labels) = (digits(part, DIGITS) for part in ("held_out", "training"))
    assert (len(held_out), len(training)) == (364, 1433)
    assert np.bincount(held_out_labels).min() >= 35
    assert np.bincount(labels).min() >= 139
    assert not {image.tobytes() for image in held_out} & {image.tobytes() for image in training}


def test_sample_digits_are_the_first_held_out_ones_and_no_more_than_there_are() -> None:
    pixels, _ = digits("held_out", DIGITS)
    assert np.array_equal(sample_digits(364, DIGITS), pixels)
    assert np.array_equal(sample_digits(12, DIGITS), pixels[:12])
    with pytest.raises(Unsupported, match="364 held-out digits, not 365"):
        sample_digits(365, DIGITS)


def test_photographs_are_different_crops_the_same_for_every_count() -> None:
    samples = sample_photographs(9, Preprocess(size=224, resize=256))
    assert samples.shape == (9, 224, 224, 3)
    assert samples.dtype == np.uint8
    assert np.array_equal(samples[:4], sample_photographs(4, Preprocess(size=224, resize=256)))
    assert len({image.tobytes() for image in samples}) == 9
    assert samples.std(axis=(1, 2, 3)).min() > 10
