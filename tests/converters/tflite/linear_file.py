"""A linear classifier as a TFLite file with channels last, written by hand, and what is known of it."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evit_edge.converters.artifact import TensorRecord
from evit_edge.converters.tflite.metadata import attach
from evit_edge.models.spec import ModelRequest, ModelSpec, Preprocess, TensorSpec

from ...device_bench.tflite_files import Op, Tensor, file

SIZE = 8
LABELS = ("null", "eins", "zwei", "drei", "vier", "fünf", "六", "", "8 of them", "🂡")
CLASSES = len(LABELS)
PREPROCESS = Preprocess(size=SIZE, resize=10, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125), interpolation="bilinear")
WEIGHTS = np.random.default_rng(0).standard_normal((CLASSES, SIZE * SIZE * 3)).astype(np.float32)

INPUT = TensorRecord(name="image", shape=(1, SIZE, SIZE, 3), dtype="float32", layout="nhwc")
OUTPUT = TensorRecord(name="logits", shape=(1, CLASSES), dtype="float32")
EXTRA = {"manifest_key": "c" * 64, "note": "ß"}


def content() -> bytes:
    tensors = [
        Tensor(name="image", shape=(1, SIZE, SIZE, 3)),
        Tensor(name="shape", shape=(2,), dtype="int32", data=np.array([1, SIZE * SIZE * 3], np.int32)),
        Tensor(name="row", shape=(1, SIZE * SIZE * 3)),
        Tensor(name="weights", shape=WEIGHTS.shape, data=WEIGHTS),
        Tensor(name="scores", shape=(1, CLASSES)),
    ]
    ops = [
        Op(kind="RESHAPE", inputs=["image", "shape"], outputs=["row"]),
        Op(
            kind="FULLY_CONNECTED",
            inputs=["row", "weights"],
            outputs=["scores"],
            options_type="FullyConnectedOptions",
        ),
    ]
    signature = ({"image": "image"}, {"logits": "scores"})
    return file(tensors, ops, inputs=["image"], outputs=["scores"], signature=signature)


def _never(*_: Any) -> Any:
    raise AssertionError("describing a file needs no model")


SPEC = ModelSpec(
    request=ModelRequest(
        name="linear", weights="/home/somebody/secret/seeded.safetensors", img_size=SIZE, num_classes=10
    ),
    inputs=(TensorSpec(name="image", shape=(None, 3, SIZE, SIZE)),),
    outputs=(TensorSpec(name="logits", shape=(None, CLASSES)),),
    preprocess=PREPROCESS,
    labels=LABELS,
    licence="Apache-2.0",
    weights_sha256="1" * 64,
    build=_never,
    sample_pixels=_never,
    calibration_pixels=_never,
)


def labelled(labels: Sequence[str] | None) -> ModelSpec:
    count = CLASSES if labels is None else len(labels)
    return replace(
        SPEC, labels=None if labels is None else tuple(labels), request=replace(SPEC.request, num_classes=count)
    )


def run(package: str, path: Path, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The scores for one image (1, size, size, 3), through the signature."""
    engine = importlib.import_module(f"{package}.interpreter").Interpreter(model_path=str(path), num_threads=1)
    engine.allocate_tensors()
    scores: NDArray[np.float32] = engine.get_signature_runner("serving_default")(image=image)["logits"]
    return scores


def describe(path: Path, spec: ModelSpec = SPEC, outputs: Sequence[TensorRecord] = (OUTPUT,)) -> Path:
    """Attach what is known of it."""
    attach(path, spec=spec, precision="fp32", inputs=[INPUT], outputs=outputs, extra=EXTRA)
    return path
