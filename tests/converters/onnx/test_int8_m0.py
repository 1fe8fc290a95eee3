"""EfficientViT-M0, trained on CIFAR-10, in int8 ONNX: like float, in integer kernels, and its faults are caught."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from evit_edge.converters import parity
from evit_edge.converters.conversion import CONVERTERS, Conversion, plan
from evit_edge.converters.onnx import host, inspection, int8, making, ranges
from evit_edge.converters.onnx.engine import fused, session
from evit_edge.models.errors import ConversionFailed, ParityFailed
from evit_edge.models.spec import ModelRequest, ModelSpec, find

SHARED = Path(__file__).resolve().parents[4] / "shared"
WEIGHTS = SHARED / "weights" / "efficientvit_m0_cifar10_96px.safetensors"
IMAGES = {part: SHARED / "data" / f"cifar10_{part}.npz" for part in ("calibration", "validation")}
COUNT = 512
SCHEMES = ("x86-vnni", "x86-avx2")

pytestmark = pytest.mark.skipif(
    not all(path.exists() for path in (WEIGHTS, *IMAGES.values())), reason=f"needs weights and images in {SHARED}"
)


@cache
def spec() -> ModelSpec:
    return find(ModelRequest(name="efficientvit_m0", weights=str(WEIGHTS)))


@cache
def module() -> nn.Module:
    return spec().build().eval()


@cache
def conversion(precision: str) -> Conversion:
    calibrate = IMAGES["calibration"] if precision == "int8" else None
    return plan(spec(), "onnx", precision=precision, calibrate=calibrate)


@cache
def validation() -> tuple[NDArray[np.float32], NDArray[Any]]:
    with np.load(IMAGES["validation"]) as archive:
        images, labels = archive["images"][:COUNT], archive["labels"][:COUNT]
    pixels = np.stack([spec().preprocess.pixels(Image.fromarray(image)) for image in images])
    return spec().preprocess.normalise(pixels), labels


@cache
def reference() -> NDArray[np.float32]:
    with torch.inference_mode():
        return np.concatenate([module()(part).numpy() for part in torch.from_numpy(validation()[0]).split(32)])


@pytest.fixture(scope="module")
def floating(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    out = tmp_path_factory.mktemp("float") / "model.onnx"
    CONVERTERS.load("onnx").convert(spec().build(), conversion("fp32"), out)
    return onnx.load(out)


@pytest.fixture(scope="module")
def ready(floating: onnx.ModelProto) -> onnx.ModelProto:
    return fused(floating)


@pytest.fixture(scope="module")
def found(ready: onnx.ModelProto) -> ranges.Ranges:
    return ranges.measure(ready, conversion("int8").calibration_feeds())


@pytest.fixture(scope="module", params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> host.Host:
    chosen: host.Host = request.param
    return chosen


@pytest.fixture(scope="module")
def quantized(scheme: host.Host, ready: onnx.ModelProto, found: ranges.Ranges) -> onnx.ModelProto:
    return int8.quantize(ready, found, scheme)


def logits(model: onnx.ModelProto, count: int = COUNT) -> NDArray[Any]:
    running = session(model.SerializeToString())
    return np.concatenate([running.run(None, {"image": image[None]})[0] for image in validation()[0][:count]])


def test_int8_is_as_good_as_float(scheme: host.Host, quantized: onnx.ModelProto) -> None:
    if scheme not in host.UNSIGNED and not host.is_exact(signed=True):
        pytest.skip("this CPU saturates: nothing can be said here of files for others")
    wanted, given, labels = reference(), logits(quantized), validation()[1]
    assert np.mean(given.argmax(1) == labels) >= np.mean(wanted.argmax(1) == labels) - 0.005
    assert np.mean(given.argmax(1) == wanted.argmax(1)) >= 0.98
    assert 10 * np.log10(np.square(wanted).sum() / np.square(given - wanted).sum()) >= 31  # dB, measured: 32.4


def test_the_file_is_small_and_int8(quantized: onnx.ModelProto, floating: onnx.ModelProto) -> None:
    assert quantized.ByteSize() <= 0.32 * floating.ByteSize()
    looked = inspection.of(quantized)
    assert looked.precision == "int8"
    integer = sum(layer.macs for layer in looked.layers if layer.arithmetic == "uint8")
    assert integer >= 0.95 * looked.macs


def test_layers_run_in_integer_kernels_and_not_as_islands(quantized: onnx.ModelProto, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(quantized.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert kinds["QLinearConv"] == 75
    assert kinds["Conv"] == 16  # the first, and depthwise ones on the residual stream
    assert kinds["QGemm"] + kinds["QLinearMatMul"] + kinds["MatMulIntegerToFloat"] == 74
    assert not kinds["Gemm"] + kinds["MatMul"] + kinds["FusedMatMul"] + kinds["FusedGemm"]
    assert kinds["Softmax"] == 24


def test_every_weight_has_a_scale_a_channel_unless_it_stands_on_the_left(quantized: onnx.ModelProto) -> None:
    constants = {tensor.name: tensor for tensor in quantized.graph.initializer}
    makers = {node.output[0]: node for node in quantized.graph.node if node.op_type == "DequantizeLinear"}
    seen = 0
    for node in quantized.graph.node:
        maker = makers.get(node.input[1]) if node.op_type in ("Conv", "Gemm", "MatMul") else None
        if maker and maker.input[0] in constants:
            assert len(constants[maker.input[1]].dims) == 1
            seen += 1
    assert seen == 81


def test_nothing_is_rounded_between_operators_that_are_float(quantized: onnx.ModelProto) -> None:
    producers = {name: node for node in quantized.graph.node for name in node.output}
    floating = ("Add", "Softmax", "ReduceMean")
    sources = [(node, producers.get(name)) for node in quantized.graph.node for name in node.input]
    through = [(node, back) for node, back in sources if back and back.op_type == "DequantizeLinear"]
    for node, back in through:
        rounding = producers.get(back.input[0])
        if node.op_type in floating and rounding:
            assert producers[rounding.input[0]].op_type not in floating
    assert producers["logits"].op_type == "Gemm"


def test_the_same_twice_is_the_same_bytes(ready: onnx.ModelProto, found: ranges.Ranges) -> None:
    one, other = (int8.quantize(ready, found, "arm64").SerializeToString(deterministic=True) for _ in range(2))
    assert one == other


def test_weights_that_moved_are_caught_before_they_are_quantized(floating: onnx.ModelProto) -> None:
    damaged = onnx.ModelProto()
    damaged.CopyFrom(floating)
    (weight,) = [tensor for tensor in damaged.graph.initializer if tensor.name == "stages.0.1.pw2.weight"]
    rolled = np.roll(onnx.numpy_helper.to_array(weight), 1, axis=0)
    weight.CopyFrom(onnx.numpy_helper.from_array(rolled, weight.name))
    feeds = list(islice(conversion("int8").calibration_feeds(), 4))
    making.prove(floating.SerializeToString(), module(), iter(feeds), 1)
    with pytest.raises(ParityFailed, match="the float form"):
        making.prove(damaged.SerializeToString(), module(), iter(feeds), 1)


def test_a_layer_with_a_wrong_scale_fails_at_the_gate(ready: onnx.ModelProto, found: ranges.Ranges) -> None:
    good = int8.quantize(ready, found, "x86-avx2")
    damaged = onnx.ModelProto()
    damaged.CopyFrom(good)
    (scale,) = [tensor for tensor in damaged.graph.initializer if tensor.name == "stages.0.1.pw2.weight_scale"]
    scale.CopyFrom(onnx.numpy_helper.from_array(8 * onnx.numpy_helper.to_array(scale), scale.name))
    rows = [
        parity.compare([reference()[:32]], [logits(model, 32)], inputs="images", threshold=parity.THRESHOLDS["int8"])
        for model in (good, damaged)
    ]
    assert [row.passed for row in rows] == [True, False]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_calibration_refuses_what_is_not_finite(ready: onnx.ModelProto, value: float) -> None:
    with pytest.raises(ConversionFailed, match="not finite"):
        ranges.measure(ready, [np.full((1, 3, 96, 96), value, np.float32)])


def test_calibration_refuses_to_do_without_images(ready: onnx.ModelProto) -> None:
    with pytest.raises(ConversionFailed, match="no image"):
        ranges.measure(ready, [])
