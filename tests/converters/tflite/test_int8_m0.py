"""EfficientViT-M0, trained on CIFAR-10, with small weights and in int8: like float, and alike in every engine."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from evit_edge.converters.tflite import direct
from evit_edge.models.spec import ModelRequest, ModelSpec, find

from .engines import ENGINES, File, cosines, is_one_partition, to_file, written

SHARED = Path(__file__).resolve().parents[4] / "shared"
WEIGHTS = SHARED / "weights" / "efficientvit_m0_cifar10_96px.safetensors"
IMAGES = {part: SHARED / "data" / f"cifar10_{part}.npz" for part in ("calibration", "validation")}
COUNT = 512

pytestmark = pytest.mark.skipif(
    not all(path.exists() for path in (WEIGHTS, *IMAGES.values())), reason=f"needs weights and images in {SHARED}"
)


@cache
def spec() -> ModelSpec:
    return find(ModelRequest(name="efficientvit_m0", weights=str(WEIGHTS)))


@cache
def images(part: str, count: int) -> NDArray[np.float32]:
    with np.load(IMAGES[part]) as archive:
        chosen = archive["images"][:count]
    pixels = np.stack([spec().preprocess.pixels(Image.fromarray(image)) for image in chosen])
    normalised: NDArray[np.float32] = spec().preprocess.normalise(pixels)
    return normalised


@cache
def module() -> nn.Module:
    return spec().deploy(spec().build(), None)


@cache
def reference(count: int) -> NDArray[np.float32]:
    with torch.inference_mode():
        parts = [module()(part).numpy() for part in torch.from_numpy(images("validation", count)).split(32)]
    return np.concatenate(parts)


@cache
def content(precision: str) -> bytes:
    size = spec().preprocess.size
    calibration = images("calibration", 128)
    graph = direct.graph_of(
        module(), (None, 3, size, size), precision=precision, feeds=lambda: (image[None] for image in calibration)
    )
    return written(graph)


@cache
def logits(precision: str, engine: str, count: int) -> NDArray[Any]:
    file, given = File(content(precision), engine), to_file(images("validation", count))
    return np.concatenate([file.run(given[at : at + 1])[0].copy() for at in range(count)])


@pytest.mark.parametrize("engine", ENGINES)
def test_small_weights_change_little(engine: str) -> None:
    assert cosines(logits("w8", engine, 128), reference(128)).min() >= 0.999


def agreement(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(np.mean(one.argmax(1) == other.argmax(1)))


@pytest.mark.parametrize("engine", ENGINES)
def test_int8_is_close_to_float(engine: str) -> None:
    found, wanted = logits("int8", engine, COUNT), reference(COUNT)
    assert agreement(found, wanted) >= 0.98
    assert 10 * np.log10(np.square(wanted).sum() / np.square(found - wanted).sum()) >= 31  # dB, measured: 32.4


@pytest.mark.parametrize("pair", list(combinations(ENGINES, 2)), ids=" and ".join)
def test_int8_is_the_same_in_every_engine(pair: tuple[str, str]) -> None:
    one, other = (logits("int8", engine, COUNT) for engine in pair)
    assert agreement(one, other) >= 0.99


def test_all_of_int8_is_one_partition() -> None:
    assert is_one_partition(content("int8"))
