"""Planted faults: each is in the saved package, and what looks for it is the gate's own comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from evit_edge.converters import parity
from evit_edge.converters.artifact import Normalisation, ParityRow
from evit_edge.converters.coreml import compress, inspection, int8, metadata
from evit_edge.converters.coreml import program as programs
from evit_edge.converters.coreml.executor import Executor
from evit_edge.converters.coreml.proof import prove, prove_weights
from evit_edge.converters.coreml.ranges import measure
from evit_edge.converters.coreml.writer import Form
from evit_edge.converters.golden import IMAGES
from evit_edge.models.errors import BadArtifact, ParityFailed
from evit_edge.models.spec import ModelRequest, ModelSpec, find

from .damage import WEIGHTS, Damaged
from .faults import BGR, CAUGHT, NOTHING, OF_THE_FLOAT_PROGRAM, OF_THE_WEIGHTS, TOO_SMALL, Fault, in_colours
from .saving import written

COUNT = 16
# k-means takes half a minute for all of M0's weights.
SLOW = ("pal8",)
# The digits are grey, and so would not show which colour is which.
TINTS = np.array([(1, 0.7, 0.3), (0.4, 0.9, 1), (0.6, 1, 0.5), (0.9, 0.3, 0.8)])


@cache
def spec() -> ModelSpec:
    return find(ModelRequest(name="efficientvit_m0", weights="demo"))


@cache
def pixels(part: str = "sample") -> NDArray[np.uint8]:
    """Digits in colours, (n, height, width, 3)."""
    grey = (spec().sample_pixels if part == "sample" else spec().calibration_pixels)(COUNT)
    tinted: NDArray[np.uint8] = (grey * TINTS[np.arange(COUNT) % len(TINTS), None, None]).astype(np.uint8)
    return tinted


def marks(name: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] if name in SLOW else []


def cases(table: Mapping[str, Mapping[str, Fault]]) -> list[Any]:
    return [
        pytest.param(name, fault, id=f"{name}: {what}", marks=marks(name))
        for name, faults in table.items()
        for what, fault in faults.items()
    ]


def answers(images: NDArray[np.uint8]) -> NDArray[Any]:
    with torch.inference_mode():
        logits: NDArray[Any] = spec().build()(torch.from_numpy(spec().preprocess.normalise(images))).numpy()
    return logits


@cache
def wanted() -> NDArray[Any]:
    return answers(pixels())


def form(*, image: bool) -> Form:
    return Form(
        target="iOS17",
        shape=(3, spec().preprocess.size, spec().preprocess.size),
        inputs=["image"],
        outputs=["logits"],
        half=True,
        preprocess=spec().preprocess if image else None,
    )


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The package of a precision, `image` the one of fp16 that normalises pixels; each is made when first wanted."""
    folder = tmp_path_factory.mktemp("whole")

    @cache
    def model(name: str) -> Any:
        if name in ("fp16", "image"):
            return written(spec().deploy_channels(spec().build()), form(image=name == "image"))
        floating = model("fp16")
        if name == "w8":
            return compress.quantize_weights(floating)
        if name == "int8":
            program = programs.load(saved("fp16"))
            images = ({"image": spec().preprocess.normalise(part[None])} for part in pixels("calibration"))
            return int8.quantize(floating, program, measure(program, images, rounding=False))
        return compress.palettize(floating, name, grouped=False)

    @cache
    def saved(name: str) -> Path:
        path = folder / f"{name}.mlpackage"
        metadata.save(model(name), path)
        return path

    return saved


def judged(path: Path, name: str, images: NDArray[np.uint8] | None = None, *, inputs: str = IMAGES) -> ParityRow:
    """The gate's own line on digits in colours, or on `images`."""
    given = pixels() if images is None else images
    executor = Executor(programs.load(path))
    feeds = given if name == "image" else spec().preprocess.normalise(given)
    found = np.concatenate([executor.run({"image": part[None]})["logits"].numpy() for part in feeds])
    expected = wanted() if images is None else answers(images)
    threshold = parity.THRESHOLDS["fp16" if name == "image" else name]  # type: ignore[index]
    return parity.compare([expected], [found], inputs=inputs, threshold=threshold)


def damaged(original: Path, fault: Fault, folder: Path) -> Path:
    copy = Damaged(original, folder)
    fault(copy)
    copy.save()
    return copy.path


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in NOTHING])
def test_without_a_fault_the_gate_is_passed(package: Callable[[str], Path], name: str, tmp_path: Path) -> None:
    row = judged(damaged(package(name), NOTHING[name], tmp_path), name)
    assert row.passed
    assert row.top1 == 1
    # Far enough from the limit that what fails fails for its fault.
    assert row.relative_l2 < parity.THRESHOLDS["fp16" if name == "image" else name].relative_l2 / 2  # type: ignore[index]


@pytest.mark.parametrize(("name", "fault"), cases(CAUGHT))
def test_a_fault_is_caught(package: Callable[[str], Path], name: str, fault: Fault, tmp_path: Path) -> None:
    assert not judged(damaged(package(name), fault, tmp_path), name).passed


@pytest.mark.parametrize(("name", "fault"), cases(TOO_SMALL))
def test_a_fault_that_costs_less_than_the_precision_may(
    package: Callable[[str], Path], name: str, fault: Fault, tmp_path: Path
) -> None:
    row = judged(damaged(package(name), fault, tmp_path), name)
    # If this fails the gate has become better: move the fault to those that are caught.
    assert row.passed
    # Not always on the worst of the images, which the other figures are of.
    assert row != judged(package(name), name)


def test_grey_pictures_do_not_show_which_colour_is_which(package: Callable[[str], Path], tmp_path: Path) -> None:
    swapped = damaged(package("image"), in_colours(BGR), tmp_path)
    assert judged(swapped, "image", spec().sample_pixels(2)).passed
    # This is why the gate gives noise too.
    noise = np.random.default_rng(0).integers(0, 256, pixels()[:2].shape, dtype=np.uint8)
    assert judged(package("image"), "image", noise, inputs="noise").passed
    assert not judged(swapped, "image", noise, inputs="noise").passed


@pytest.mark.parametrize("kept", [0.999, 0.5, 0.01])
def test_weights_that_are_cut_short(package: Callable[[str], Path], kept: float, tmp_path: Path) -> None:
    def cut(copy: Damaged) -> None:
        file = copy.path / WEIGHTS
        file.write_bytes(file.read_bytes()[: int(kept * file.stat().st_size)])

    with pytest.raises(BadArtifact, match=r"damaged\.mlpackage/\S*weight\.bin is cut short"):
        programs.load(damaged(package("fp16"), cut, tmp_path))


def test_a_product_that_does_not_fit_is_named(package: Callable[[str], Path], tmp_path: Path) -> None:
    def turn(copy: Damaged) -> None:
        copy.change(copy.operations("matmul")[0], "transpose_y", np.logical_not)

    path = damaged(package("fp16"), turn, tmp_path)
    turned = next(operation for operation in programs.load(path).operations if operation.kind == "matmul")
    with pytest.raises(BadArtifact, match=f"matmul {turned.name} cannot be executed"):
        judged(path, "fp16")


def proven(path: Path, *, image: bool = False, images: NDArray[np.uint8] | None = None) -> None:
    """As before a precision is reduced: raises if the program is not the module."""
    found = inspection.inspect(path)
    (taken,), given = found.inputs, found.outputs
    if image:
        known = Normalisation(mean=spec().preprocess.mean, std=spec().preprocess.std)
        taken = taken.model_copy(update={"normalisation": known})
    shown = pixels("calibration") if images is None else images
    feeds = (spec().preprocess.normalise(part[None]) for part in shown[:4])
    prove(programs.load(path), spec().build(), feeds, taken=taken, given=given)


@pytest.mark.parametrize("fault", OF_THE_FLOAT_PROGRAM.values(), ids=OF_THE_FLOAT_PROGRAM)
def test_the_proof_sees_what_a_reduced_precision_would_hide(
    package: Callable[[str], Path], fault: Fault, tmp_path: Path
) -> None:
    proven(package("fp16"))
    with pytest.raises(ParityFailed, match="the float program to be compressed is off"):
        proven(damaged(package("fp16"), fault, tmp_path))


@pytest.mark.parametrize(("name", "fault"), cases(OF_THE_WEIGHTS))
def test_the_proof_of_the_weights_sees_what_is_too_small_for_the_gate(
    package: Callable[[str], Path], name: str, fault: Fault, tmp_path: Path
) -> None:
    floating = programs.load(package("fp16"))
    prove_weights(floating, programs.load(package(name)), name)
    with pytest.raises(ParityFailed, match=f"the {name} weights of .* are off"):
        prove_weights(floating, programs.load(damaged(package(name), fault, tmp_path)), name)


def test_the_proof_sees_colours_in_coloured_pictures_only(package: Callable[[str], Path], tmp_path: Path) -> None:
    swapped = damaged(package("image"), in_colours(BGR), tmp_path)
    proven(package("image"), image=True)
    with pytest.raises(ParityFailed, match="is off"):
        proven(swapped, image=True)
    proven(swapped, image=True, images=spec().calibration_pixels(4))
