"""EfficientViT-M0, trained on CIFAR-10, at every precision of Core ML: as close to the original as was promised."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from evit_edge.converters.conversion import CONVERTERS, plan
from evit_edge.converters.coreml.executor import Executor
from evit_edge.converters.coreml.inspection import inspect
from evit_edge.converters.coreml.program import load
from evit_edge.converters.inspection import is_met
from evit_edge.models.spec import ModelRequest, ModelSpec, find

SHARED = Path(__file__).resolve().parents[3] / "shared"
WEIGHTS = SHARED / "weights" / "efficientvit_m0_cifar10_96px.safetensors"
IMAGES = {part: SHARED / "data" / f"cifar10_{part}.npz" for part in ("calibration", "validation")}
COUNT = 512
BATCH = 32

pytestmark = pytest.mark.skipif(
    not all(path.exists() for path in (WEIGHTS, *IMAGES.values())), reason=f"needs weights and images in {SHARED}"
)

Array = NDArray[Any]
Logits = Callable[..., Array]


@cache
def spec() -> ModelSpec:
    return find(ModelRequest(name="efficientvit_m0", weights=str(WEIGHTS)))


@cache
def validation() -> tuple[Array, Array]:
    """The model's inputs and their classes."""
    with np.load(IMAGES["validation"]) as archive:
        images, labels = archive["images"][:COUNT], archive["labels"][:COUNT]
    pixels = np.stack([spec().preprocess.pixels(Image.fromarray(image)) for image in images])
    return spec().preprocess.normalise(pixels), labels


@cache
def original() -> Array:
    with torch.inference_mode():
        parts = [spec().build()(part).numpy() for part in torch.from_numpy(validation()[0]).split(64)]
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def logits(tmp_path_factory: pytest.TempPathFactory) -> Logits:
    """Of all images, from the saved package alone, which holds the precision that was asked for."""

    @cache
    def answered(precision: str, ios: str = "auto") -> Array:
        own = {"calibrate": IMAGES["calibration"]} if precision in ("int8", "mixed") else {}
        # Many at a time are several times as fast.
        conversion = plan(spec(), "coreml", precision=precision, batch=None, options={"ios": ios}, **own)  # type: ignore[arg-type]
        path = tmp_path_factory.mktemp(precision) / "model.mlpackage"
        notes = CONVERTERS.load("coreml").convert(spec().build(), conversion, path)
        assert not any("float32" in note for note in notes)
        found = inspect(path)
        assert is_met(precision, found.precision)
        assert precision != "mixed" or found.int8_share >= 0.9
        executor = Executor(load(path))
        parts = np.array_split(validation()[0], COUNT // BATCH)
        answers = [executor.run({"image": part})["logits"].numpy() for part in parts]
        return np.concatenate(answers)

    return answered


def cosines(one: Array, other: Array) -> Array:
    one, other = one.astype(np.float64), other.astype(np.float64)
    shares: Array = (one * other).sum(1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))
    return shares


def agreement(one: Array, other: Array) -> float:
    return float(np.mean(one.argmax(1) == other.argmax(1)))


def accuracy(found: Array) -> float:
    return float(np.mean(found.argmax(1) == validation()[1]))


def test_the_weights_are_those_of_a_trained_model() -> None:
    assert 0.63 <= accuracy(original()) <= 0.75


def test_fp16_answers_as_float32_does(logits: Logits) -> None:
    found = logits("fp16")
    assert agreement(found, original()) >= 0.99
    assert cosines(found, original()).min() >= 0.9995


def test_int8_is_as_good_as_float32(logits: Logits) -> None:
    found = logits("int8")
    assert abs(accuracy(found) - accuracy(original())) <= 0.005
    assert agreement(found, original()) >= 0.95
    assert cosines(found, original()).min() >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "ios", "agreeing", "cosine"),
    [
        ("mixed", "auto", 0.985, 0.95),
        ("w8", "auto", 0.985, 0.99),
        ("pal8", "auto", 0.985, 0.99),
        ("pal6", "auto", 0.97, 0.95),
        ("pal4", "iOS18", 0.90, 0.8),
    ],
)
def test_fewer_bits_change_little(logits: Logits, precision: str, ios: str, agreeing: float, cosine: float) -> None:
    found = logits(precision, ios)
    assert agreement(found, original()) >= agreeing
    assert cosines(found, original()).min() >= cosine
