"""What is found in a file, and not what was asked for when it was written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ai_edge_litert.schema_py_generated import TensorType
from torch import nn

from evit_edge.converters.tflite import direct
from evit_edge.converters.tflite.flatbuffer import pack, unpack
from evit_edge.converters.tflite.inspection import histogram, inspect, tensors
from evit_edge.converters.tflite.writer import write
from evit_edge.models.errors import BadArtifact

SHAPE = (1, 3, 8, 8)
NAMES = {"inputs": ["image"], "outputs": ["logits"]}


class Network(nn.Module):
    """1152 weights in a convolution, 1152 in a layer behind it; the convolution has nearly all of the arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 24, 4, padding=1, stride=1)
        self.head = nn.Linear(24, 48)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.stem(image)).mean((2, 3)))  # type: ignore[no-any-return]


def written(path: Path, precision: str = "fp32", module: nn.Module | None = None, **options: Any) -> Path:
    rng = np.random.default_rng(0)
    feeds = [rng.standard_normal(SHAPE).astype(np.float32) for _ in range(4)]
    shape = options.pop("shape", SHAPE)
    graph = direct.graph_of(module or Network().eval(), shape, precision=precision, feeds=lambda: feeds, **options)
    path.write_bytes(write(graph, **NAMES))
    return path


def precision_of(path: Path) -> str:
    return inspect(path).precision


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.tflite"


@pytest.mark.parametrize("precision", direct.PRECISIONS)
def test_a_precision_that_was_written_is_found(path: Path, precision: str) -> None:
    assert precision_of(written(path, precision)) == precision


def changed(path: Path, change: Callable[[Any, dict[str, int]], None]) -> Path:
    """The file with other dtypes in its tensors: `change` gets them all, and the places of a few."""
    model = unpack(path.read_bytes())
    graph = model.subgraphs[0]
    layers = [operator for operator in graph.operators if len(operator.inputs) == 3]
    stem, head = layers
    places = {"stem": stem.inputs[1], "head": head.inputs[1], "map": stem.outputs[0], "logits": head.outputs[0]}
    change(graph.tensors, places)
    path.write_bytes(pack(model))
    return path


def typed(**dtypes: int) -> Callable[[Any, dict[str, int]], None]:
    def change(held: Any, places: dict[str, int]) -> None:
        for name, dtype in dtypes.items():
            held[places[name]].type = dtype

    return change


INT8, INT16, FLOAT16 = TensorType.INT8, TensorType.INT16, TensorType.FLOAT16


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (typed(stem=FLOAT16), "weights 50.0% float16 + 50.0% float32, arithmetic 100.0% float32"),
        (typed(head=INT8), "weights 50.0% float32 + 50.0% int8, arithmetic 100.0% float32"),
        (typed(stem=INT8, head=FLOAT16), "weights 50.0% int8 + 50.0% float16, arithmetic 100.0% float32"),
        (typed(stem=INT8, head=INT8), "w8"),
        (typed(stem=FLOAT16, head=FLOAT16), "fp16"),
        # The layer of few multiplications does not count for the arithmetic, but its weights do.
        (typed(stem=INT8, head=INT8, map=INT8), "int8"),
        (typed(stem=INT8, head=INT8, map=INT16), "w8a16"),
        (typed(stem=INT8, head=INT8, logits=INT8), "w8"),
        (typed(stem=INT8, map=INT8), "mixed"),
        (typed(map=INT8, logits=INT8), "weights 100.0% float32, arithmetic 100.0% int8"),
    ],
)
def test_a_mixture_is_told_as_what_it_is(path: Path, change: Any, found: str) -> None:
    assert precision_of(changed(written(path), change)) == found


def test_a_file_without_weights_says_so(path: Path) -> None:
    assert precision_of(written(path, module=nn.ReLU())) == "no weights"


def test_the_histogram_counts_operators(path: Path) -> None:
    counted = histogram(written(path))
    assert counted["CONV_2D"] == counted["FULLY_CONNECTED"] == counted["MEAN"] == 1
    assert "DEQUANTIZE" not in counted
    assert histogram(written(path, "w8"))["DEQUANTIZE"] == 2
    assert histogram(written(path, module=nn.Sequential(nn.Tanh(), nn.Sigmoid()))) == {"TANH": 1, "LOGISTIC": 1}


def test_inputs_and_outputs_are_those_of_the_signature(path: Path) -> None:
    written(path, shape=(None, *SHAPE[1:]))
    (image,) = tensors(path, ["image"], side="inputs", layout="nhwc")
    (logits,) = tensors(path, ["logits"], side="outputs", layout="nhwc")
    assert (image.shape, image.dtype, image.layout, image.quantization) == ((None, 8, 8, 3), "float32", "nhwc", None)
    assert (logits.shape, logits.layout) == ((None, 48), "nchw")


def test_integers_come_with_what_they_stand_for(path: Path) -> None:
    written(path, "int8", edge="uint8")
    (image,) = tensors(path, ["image"], side="inputs", layout="nhwc")
    assert image.dtype == "uint8"
    assert image.quantization is not None
    assert 0 < image.quantization.zero_point < 255
    assert 0.01 < image.quantization.scale < 0.1


def test_other_names_than_the_files_own_are_refused_with_both(path: Path) -> None:
    with pytest.raises(BadArtifact, match="inputs are image, not picture"):
        tensors(written(path), ["picture"], side="inputs", layout="nhwc")
    model = unpack(path.read_bytes())
    model.signatureDefs = []
    path.write_bytes(pack(model))
    with pytest.raises(BadArtifact, match=r"model\.tflite has no signature"):
        tensors(path, ["image"], side="inputs", layout="nhwc")


@pytest.mark.parametrize(
    "fault",
    [
        lambda whole: b"",
        lambda whole: b"TFL3",
        lambda whole: b"a text, and not a model" * 10,
        lambda whole: b"\x08\x00\x00\x00TFL3",
        lambda whole: whole[:200],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:4] + b"ONNX" + whole[8:],
    ],
)
@pytest.mark.parametrize("question", [inspect, histogram])
def test_what_is_no_whole_tflite_file_is_refused_with_its_name(path: Path, question: Any, fault: Any) -> None:
    path.write_bytes(fault(written(path).read_bytes()))
    with pytest.raises(BadArtifact) as caught:
        question(path)
    assert str(path) in caught.value.message
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(path: Path) -> None:
    with pytest.raises(BadArtifact, match=r"model\.tflite cannot be read: No such file"):
        precision_of(path)
