"""Figures that were computed by hand, against those found in files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from evit_edge.converters.artifact import Artifact, TensorRecord
from evit_edge.converters.conversion import CONVERTERS
from evit_edge.converters.inspection import Inspection, Layer, images_in, look
from evit_edge.converters.tflite import direct, metadata
from evit_edge.converters.tflite.writer import write
from evit_edge.models.errors import BadArtifact
from evit_edge.models.figures import figures

from .tflite import linear_file

SHAPE = (1, 3, 8, 8)


def layer(weight_dtype: str, arithmetic: str, *, weights: int = 100, macs: int = 100) -> Layer:
    return Layer(
        name="", kind="", weights=weights, weight_dtype=weight_dtype, weight_bytes=7, arithmetic=arithmetic, macs=macs
    )


def inspection(*layers: Layer) -> Inspection:
    return Inspection(operators={}, layers=layers, inputs=(), outputs=())


PRODUCT = layer("", "float32", weights=0, macs=10_000)


@pytest.mark.parametrize(
    ("layers", "precision"),
    [
        ([layer("float32", "float32")], "fp32"),
        ([layer("float16", "float32")], "fp16"),
        ([layer("float16", "float16")], "fp16"),
        ([layer("int8", "float16")], "w8"),
        ([layer("int8", "float32")], "w8"),
        ([layer("int8", "int8")], "int8"),
        ([layer("int8", "uint8")], "int8"),
        ([layer("uint8", "uint8")], "int8"),
        ([layer("int8", "int16")], "w8a16"),
        ([layer("lut4", "float16")], "pal4"),
        ([layer("lut6", "float16")], "pal6"),
        ([layer("lut8", "float16")], "pal8"),
        ([layer("float32", "float16")], "weights 100.0% float32, arithmetic 100.0% float16"),
        ([layer("int8", "int8", weights=95, macs=95), layer("float32", "float32", weights=5, macs=5)], "int8"),
        (
            [layer("int8", "int8", weights=94), layer("float32", "int8", weights=6)],
            "weights 94.0% int8 + 6.0% float32, arithmetic 100.0% int8",
        ),
        ([layer("int8", "int8", macs=60), layer("float32", "float32", macs=40)], "mixed"),
        ([layer("uint8", "uint8", macs=50), layer("float16", "float16", macs=50)], "mixed"),
        # Products of two activations do not count, whatever they are computed in.
        ([layer("int8", "int8"), PRODUCT], "int8"),
        # Without shapes the weights stand for the arithmetic.
        ([layer("int8", "int8", macs=0), layer("int8", "float32", weights=1, macs=0)], "int8"),
        ([PRODUCT], "no weights"),
        ([], "no weights"),
    ],
)
def test_the_precision_follows_from_the_layers(layers: Sequence[Layer], precision: str) -> None:
    assert inspection(*layers).precision == precision


def test_shares_are_sums_over_layers_alike_with_the_most_macs_first() -> None:
    found = inspection(layer("int8", "int8"), PRODUCT, layer("int8", "int8", macs=50), layer("int8", "float32"))
    assert [(share.arithmetic, share.weight_dtype, share.layers, share.macs) for share in found.shares] == [
        ("float32", "", 1, 10_000),
        ("int8", "int8", 2, 150),
        ("float32", "int8", 1, 100),
    ]
    assert (found.macs, found.weight_bytes) == (10_250, 28)
    assert sum(share.weight_bytes for share in found.shares) == 28


@pytest.mark.parametrize(
    ("shapes", "images"),
    [([(4, 3, 8, 8), (4, 10)], 4), ([(None, 3), (None, 10)], 1), ([(224, 224), (1, 10)], 1), ([(), ()], 1), ([], 1)],
)
def test_a_batch_is_what_all_inputs_and_outputs_begin_with(shapes: Any, images: int) -> None:
    records = [TensorRecord(name="", shape=shape, dtype="float32") for shape in shapes]
    assert images_in(records[:1], records[1:]) == images


class Network(nn.Module):
    """864 weights used 64 times, a product of 32×64 with 64×32, and 5120 weights used once."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.head = nn.Linear(32 * 32, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        tokens = torch.relu(self.stem(image)).flatten(2)
        return self.head((tokens @ tokens.transpose(1, 2)).flatten(1))  # type: ignore[no-any-return]


MACS = {"conv": 864 * 64, "product": 32 * 64 * 32, "linear": 5120}
# One float32 scale and one int64 zero point a channel.
SCALES = {"conv": 32 * 12, "linear": 5 * 12}


def tflite(path: Path, precision: str, shape: Any = SHAPE, **options: Any) -> Inspection:
    feeds = [np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)]
    graph = direct.graph_of(Network().eval(), shape, precision=precision, feeds=lambda: feeds, **options)
    path = path / "model.tflite"
    path.write_bytes(write(graph, inputs=["image"], outputs=["logits"]))
    return look(path).inspection


@pytest.mark.parametrize(
    ("precision", "options", "dtypes", "conv_bytes", "linear_bytes"),
    [
        ("fp32", {}, ("float32", "float32"), 864 * 4, 5120 * 4),
        ("fp16", {}, ("float16", "float32"), 864 * 2, 5120 * 2),
        ("w8", {}, ("int8", "float32"), 864 + SCALES["conv"], 5120 + SCALES["linear"]),
        ("int8", {"edge": "int8"}, ("int8", "int8"), 864 + SCALES["conv"], 5120 + SCALES["linear"]),
    ],
)
def test_tflite_layers_are_those_of_the_network(
    tmp_path: Path, precision: str, options: Any, dtypes: tuple[str, str], conv_bytes: int, linear_bytes: int
) -> None:
    found = tflite(tmp_path, precision, **options)
    conv, product, linear = found.layers
    assert [each.kind for each in found.layers] == ["CONV_2D", "BATCH_MATMUL", "FULLY_CONNECTED"]
    assert [each.macs for each in found.layers] == list(MACS.values())
    assert (conv.weight_bytes, product.weight_bytes, linear.weight_bytes) == (conv_bytes, 0, linear_bytes)
    assert (conv.weight_dtype, conv.arithmetic) == (linear.weight_dtype, linear.arithmetic) == dtypes
    assert (product.weights, product.weight_dtype) == (0, "")
    assert found.precision == precision


@pytest.mark.parametrize("batch", [None, 4])
def test_macs_are_those_of_one_image_at_every_batch(tmp_path: Path, batch: int | None) -> None:
    found = tflite(tmp_path, "fp32", shape=(batch, *SHAPE[1:]))
    assert found.inputs[0].shape == (batch, 8, 8, 3)
    assert [each.macs for each in found.layers] == list(MACS.values())


def test_tflite_layouts_are_the_formats_own_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    (image,) = tflite(tmp_path, "fp32", channels_last=False).inputs
    assert (image.shape, image.layout) == ((1, 3, 8, 8), "nhwc")
    described = [record.model_copy(update={"shape": SHAPE, "layout": "nchw"}) for record in (linear_file.INPUT,)]
    path = tmp_path / "model.tflite"
    spec, outputs = linear_file.SPEC, [TensorRecord(name="logits", shape=(1, 5), dtype="float32")]
    metadata.attach(path, spec=spec, precision="fp32", inputs=described, outputs=outputs, extra={})
    assert look(path).inspection.inputs[0].layout == "nchw"


def array(name: str, shape: Sequence[int], dtype: Any = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.ones(shape, dtype), name)


def onnx_file(path: Path, nodes: Sequence[Any], weights: Sequence[TensorProto], **shapes: Any) -> Path:
    """A model from `x` to `y`; a string as a size is free."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in ("x", "y")]
    graph = helper.make_graph(list(nodes), "graph", values[:1], values[1:], list(weights))
    path = path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]), path)
    return path


CONV = helper.make_node("Conv", ["x", "w"], ["conv"], pads=[1, 1, 1, 1], group=2)
UP = helper.make_node("ConvTranspose", ["conv", "up_w"], ["up"], strides=[2, 2])
TAIL = [
    helper.make_node("Constant", [], ["sizes"], value=numpy_helper.from_array(np.array([0, 64, -1]))),
    helper.make_node("Reshape", ["up", "sizes"], ["rows"]),
    helper.make_node("Transpose", ["rows"], ["columns"], perm=[0, 2, 1]),
    helper.make_node("MatMul", ["rows", "columns"], ["product"], name="square"),
    helper.make_node("ReduceMean", ["product", "axis"], ["mean"], keepdims=0),
    helper.make_node("Gemm", ["mean", "head_w"], ["y"]),
]


@pytest.mark.parametrize("batch", [1, 4, "batch"])
def test_onnx_layers_are_those_of_the_graph(tmp_path: Path, batch: int | str) -> None:
    weights = [array("w", (8, 2, 3, 3)), array("up_w", (8, 4, 2, 2)), array("head_w", (64, 5))]
    weights.append(numpy_helper.from_array(np.array([1]), "axis"))
    found = look(onnx_file(tmp_path, [CONV, UP, *TAIL], weights, x=[batch, 4, 6, 6], y=[batch, 5])).inspection
    # The map of 4×12×12 makes 64 rows of 9.
    assert [(each.name, each.weights, each.weight_bytes, each.macs) for each in found.layers] == [
        ("w", 144, 576, 8 * 36 * 18),
        ("up_w", 128, 512, 8 * 36 * 16),
        ("square", 0, 0, 64 * 9 * 64),
        ("head_w", 320, 1280, 64 * 5),
    ]
    assert found.inputs[0].shape == (None if batch == "batch" else batch, 4, 6, 6)
    assert found.operators["Conv"] == found.operators["Gemm"] == 1
    assert found.precision == "fp32"


def quantized(name: str, source: str) -> list[Any]:
    return [
        helper.make_node("QuantizeLinear", [source, "s", "z"], [f"{name}_q"]),
        helper.make_node("DequantizeLinear", [f"{name}_q", "s", "z"], [name]),
    ]


@pytest.mark.parametrize(
    ("before", "activation", "precision"),
    [([], "x", "w8"), (quantized("a", "x"), "a", "int8")],
)
def test_onnx_weights_and_activations_behind_dequantizelinear_are_integers(
    tmp_path: Path, before: list[Any], activation: str, precision: str
) -> None:
    nodes = [
        *before,
        helper.make_node("DequantizeLinear", ["w", "s"], ["w_float"]),
        helper.make_node("Conv", [activation, "w_float"], ["y"]),
    ]
    weights = [array("w", (8, 4, 3, 3), np.int8), array("s", ()), array("z", (), np.int8)]
    found = look(onnx_file(tmp_path, nodes, weights, x=[1, 4, 8, 8], y=[1, 8, 6, 6])).inspection
    (conv,) = found.layers
    assert (conv.name, conv.weights, conv.weight_bytes, conv.macs) == ("w", 288, 288 + 4, 288 * 36)
    assert found.precision == precision


def test_onnx_weights_that_two_layers_share_are_counted_once_in_bytes(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("MatMul", ["m", "w"], ["y"])]
    found = look(onnx_file(tmp_path, nodes, [array("w", (4, 4))], x=[1, 4], y=[1, 4])).inspection
    assert [(each.weights, each.weight_bytes, each.macs) for each in found.layers] == [(16, 64, 16), (16, 0, 16)]


def test_onnx_without_shapes_still_has_its_weights(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Unheard", ["x"], ["u"], domain="example.org"),
        helper.make_node("MatMul", ["u", "w"], ["y"]),
    ]
    found = look(onnx_file(tmp_path, nodes, [array("w", (4, 4))], x=[1, 4], y=[1, 4])).inspection
    assert [(each.weights, each.weight_bytes, each.macs) for each in found.layers] == [(16, 64, 0)]
    assert found.operators == {"example.org.Unheard": 1, "MatMul": 1}


def test_m0_has_the_macs_of_the_model_in_every_target(demo: Artifact, demo_tflite: Artifact) -> None:
    # 10 classes instead of 1000 on 192 features; the last 73,728 weights run behind the mean of 16 places.
    expected = figures("efficientvit_m0").macs - 990 * 192 - 15 * 73_728
    for artifact in (demo, demo_tflite):
        found = look(artifact.folder)
        assert found.inspection.macs == expected
        assert (found.asked, found.inspection.precision) == ("fp32", "fp32")
        assert 0.9 < found.inspection.weight_bytes / found.size_bytes < 1


@pytest.mark.parametrize("target", CONVERTERS.names())
@pytest.mark.parametrize("content", [None, b"", b"not a model", b"\x08\x0a\x12"])
def test_what_is_no_model_is_refused_with_its_name(tmp_path: Path, target: str, content: bytes | None) -> None:
    path = tmp_path / f"model.{CONVERTERS.load(target).suffix}"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(BadArtifact) as caught:
        look(path)
    assert str(path) in caught.value.message
    assert "\n" not in str(caught.value)
