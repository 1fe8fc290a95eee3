"""Crops of photographs as a network takes them."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from evit_edge.models.sample_images import sample_photographs
from evit_edge.models.spec import Preprocess

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@cache
def photographs(count: int, size: int, *, training: bool = False) -> NDArray[np.float32]:
    """(count, 3, size, size), the training part for calibration."""
    preprocess = Preprocess(size=size, resize=size, mean=MEAN, std=STD, interpolation="bilinear")
    pixels = sample_photographs(count, preprocess, part="training" if training else "held_out")
    images: NDArray[np.float32] = preprocess.normalise(pixels)
    return images
