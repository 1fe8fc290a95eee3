"""EfficientViT as Core ML packages: every variant, for every system, computes what the original computes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evit_edge.converters.artifact import Artifact, digests_of
from evit_edge.converters.conversion import CONVERTERS
from evit_edge.converters.coreml.executor import Executor
from evit_edge.converters.coreml.program import load
from evit_edge.converters.to_coreml import TARGETS
from evit_edge.models.spec import ModelRequest, ModelSpec, find

from .coreml.tiny import answers, images, planned, written

COUNT = 2
VERSIONS = dict(zip(TARGETS, (6, 7, 8, 9, 10), strict=True))


@cache
def variant(index: int) -> tuple[ModelSpec, Any, Any]:
    """The spec with random weights, photographs (on noise M5 is chaotic), and the original's answers."""
    spec = find(ModelRequest(name=f"efficientvit_m{index}", weights="random"))
    feed = images(spec, COUNT)
    return spec, feed, answers(spec, feed)


def agrees(index: int, precision: str, ios: str, folder: Path) -> None:
    spec, feed, wanted = variant(index)
    program = load(written(planned(precision, of=spec, ios=ios), folder))
    assert program.specification_version == VERSIONS[ios]
    executor = Executor(program)
    found = np.concatenate([executor.run({"image": image[None]})["logits"].numpy() for image in feed])
    if precision == "fp32":
        assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    cosines = (found.astype(np.float64) * wanted).sum(1) / norms
    assert cosines.min() >= {"fp32": 0.99999, "fp16": 0.9995}[precision]


def some(*fast: str) -> list[Any]:
    """Every system, of which a few at once: they differ in how few operators are written."""
    return [pytest.param(ios, marks=() if ios in fast else pytest.mark.slow) for ios in TARGETS]


@pytest.mark.parametrize("ios", some("iOS15", "iOS26"))
def test_m0_in_float32_is_the_original(tmp_path: Path, ios: str) -> None:
    agrees(0, "fp32", ios, tmp_path)


@pytest.mark.parametrize("ios", some("iOS15", "iOS18"))
def test_m0_in_float16_is_close_to_the_original(tmp_path: Path, ios: str) -> None:
    agrees(0, "fp16", ios, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("ios", TARGETS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("index", range(1, 6))
def test_every_other_variant_is_close_to_the_original(tmp_path: Path, index: int, precision: str, ios: str) -> None:
    agrees(index, precision, ios, tmp_path)


def test_the_artifact_is_proven_and_says_what_it_is(demo_coreml: Artifact) -> None:
    manifest = demo_coreml.manifest
    assert (manifest.target, manifest.precision, manifest.precision_found) == ("coreml", "fp16", "fp16")
    assert manifest.payload == "model.mlpackage"
    assert manifest.notes == ()
    assert {"torch", "numpy", "coremltools", "evit-edge"} <= set(manifest.versions)
    assert {name.split("/")[0] for name in manifest.files} == {"model.mlpackage", "golden.npz"}
    assert manifest.parity is not None
    assert manifest.parity.engine == "coreml_reference"
    assert {row.inputs for row in manifest.parity.rows} == {"images", "noise", "zeros", "large"}
    # On the inputs that are too large the original itself loses more than that in half precision.
    assert min(row.cosine for row in manifest.parity.rows if row.inputs != "large") >= 0.9995


@pytest.mark.slow
def test_an_image_file_is_judged_on_what_it_can_be_given(demo_classifier: Artifact) -> None:
    manifest = demo_classifier.manifest
    assert demo_classifier.folder.name.endswith("coreml-fp16-input-image-output-classifier")
    assert manifest.inputs[0].normalisation is not None
    assert manifest.outputs[0].softmax
    assert manifest.parity is not None
    # Zeros are no picture, and nothing is larger than white.
    assert [row.inputs for row in manifest.parity.rows] == ["images", "noise"]
    assert manifest.parity.rows[0].top1 == 1


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(demo_coreml: Artifact, tmp_path: Path) -> None:
    spec = find(ModelRequest(name="efficientvit_m0", weights="demo"))
    again = written(planned("fp16", of=spec), tmp_path)
    # The card holds the key of the conversion, which counts the images of the gate.
    own, other = (CONVERTERS.load("coreml").card_of(path) for path in (demo_coreml.payload, again))
    assert own.model_copy(update={"extra": {}}) == other.model_copy(update={"extra": {}})
    weights = "Data/com.apple.CoreML/weights/weight.bin"
    assert digests_of(again)[weights] == demo_coreml.manifest.files[f"model.mlpackage/{weights}"]
    assert digests_of(again)["Manifest.json"] == demo_coreml.manifest.files["model.mlpackage/Manifest.json"]
