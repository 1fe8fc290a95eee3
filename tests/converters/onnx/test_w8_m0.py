"""EfficientViT-M0, trained on CIFAR-10, with int8 weights in ONNX: as close as was promised, and faults are caught."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from evit_edge.converters.conversion import CONVERTERS, Conversion, plan
from evit_edge.converters.onnx import inspection, int8, making, w8
from evit_edge.converters.onnx.engine import session
from evit_edge.models.errors import ParityFailed, PrecisionNotMet
from evit_edge.models.spec import ModelRequest, ModelSpec, find

SHARED = Path(__file__).resolve().parents[4] / "shared"
WEIGHTS = SHARED / "weights" / "efficientvit_m0_cifar10_96px.safetensors"
IMAGES = SHARED / "data" / "cifar10_validation.npz"
COUNT = 512

pytestmark = pytest.mark.skipif(
    not (WEIGHTS.exists() and IMAGES.exists()), reason=f"needs weights and images in {SHARED}"
)


@cache
def spec() -> ModelSpec:
    return find(ModelRequest(name="efficientvit_m0", weights=str(WEIGHTS)))


@cache
def module() -> nn.Module:
    return spec().build().eval()


def conversion(precision: str, **changes: Any) -> Conversion:
    return plan(spec(), "onnx", precision=precision, **changes)


@pytest.fixture(scope="module")
def floating(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    out = tmp_path_factory.mktemp("float") / "model.onnx"
    CONVERTERS.load("onnx").convert(module(), conversion("fp32"), out)
    return onnx.load(out)


@pytest.fixture(scope="module")
def written(floating: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("w8") / "model.onnx"
    small, notes = making.reduced(floating, module(), conversion("w8"))
    assert notes == []
    onnx.save(small, out)
    making.read_back(onnx.load(out), floating, conversion("w8"))
    return out


def test_it_answers_as_float_does(written: Path) -> None:
    with np.load(IMAGES) as archive:
        images = archive["images"][:COUNT]
    feeds = spec().preprocess.normalise(np.stack([spec().preprocess.pixels(Image.fromarray(one)) for one in images]))
    with torch.inference_mode():
        wanted = np.concatenate([module()(part).numpy() for part in torch.from_numpy(feeds).split(32)])
    running = session(written.read_bytes())
    found: NDArray[Any] = np.concatenate([running.run(None, {"image": feed[None]})[0] for feed in feeds])
    assert 10 * np.log10(np.square(wanted).sum() / np.square(found - wanted).sum()) >= 43  # dB, measured: 44.2
    assert np.mean(found.argmax(1) == wanted.argmax(1)) >= 0.99  # measured: 0.998


def test_the_file_is_small_and_w8(written: Path, floating: onnx.ModelProto) -> None:
    assert written.stat().st_size <= 0.285 * floating.ByteSize()
    found = inspection.inspect(written)
    assert found.precision == "w8"
    assert {layer.weight_dtype for layer in found.layers if layer.weights >= w8.SMALLEST} == {"int8"}
    assert {layer.weight_dtype for layer in found.layers if 0 < layer.weights < w8.SMALLEST} == {"float32"}
    assert {layer.arithmetic for layer in found.layers} == {"float32"}


def test_weights_that_moved_are_caught_before_they_lose_bits(floating: onnx.ModelProto) -> None:
    damaged = onnx.ModelProto()
    damaged.CopyFrom(floating)
    (weight,) = [tensor for tensor in damaged.graph.initializer if tensor.name == "stages.0.1.pw2.weight"]
    weight.CopyFrom(onnx.numpy_helper.from_array(np.roll(onnx.numpy_helper.to_array(weight), 1, axis=0), weight.name))
    with pytest.raises(ParityFailed, match="the float form"):
        making.reduced(damaged, module(), conversion("w8"))


def test_a_file_that_did_not_keep_the_weights_is_refused(floating: onnx.ModelProto, written: Path) -> None:
    damaged = onnx.load(written)
    (weight,) = [tensor for tensor in damaged.graph.initializer if tensor.name == "stages.0.1.pw2.weight"]
    integers = onnx.numpy_helper.to_array(weight)
    weight.CopyFrom(onnx.numpy_helper.from_array(integers // 16 * np.int8(16), weight.name))
    with pytest.raises(ParityFailed, match=r"the w8 weights of stages\.0\.1\.pw2\.weight are off by a relative L2"):
        making.read_back(damaged, floating, conversion("w8"))


def test_a_file_with_integers_of_another_host_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quantize = int8.quantize
    monkeypatch.setattr(int8, "quantize", lambda model, ranges, host, **more: quantize(model, ranges, "arm64", **more))
    asked = conversion("int8", calibration_images=4, options={"host": "x86-avx2"})
    with pytest.raises(PrecisionNotMet, match="has weights int8, activations uint8: x86-avx2 needs weights uint8"):
        CONVERTERS.load("onnx").convert(module(), asked, tmp_path / "model.onnx")
