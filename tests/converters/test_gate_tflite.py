"""The gate refuses TFLite files that compute something else: planted faults, and the known one of LiteRT 2.1.

The network has random weights and looks at photographs: on grey digits a channel swap would hardly show.
"""

import copy
import importlib.metadata
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from evit_edge.converters.artifact import Artifact, digests_of, read, write_manifest
from evit_edge.converters.conversion import CONVERTERS, plan
from evit_edge.converters.convert import convert
from evit_edge.converters.parity import check
from evit_edge.converters.tflite import direct, int8, scales, weights
from evit_edge.converters.tflite.flatbuffer import unpack
from evit_edge.converters.tflite.writer import write
from evit_edge.models.deploy import LeanAttention, LeanEfficientViT, LeanHead
from evit_edge.models.efficientvit import KEY_DIM
from evit_edge.models.errors import ParityFailed
from evit_edge.models.spec import IMAGENET_MEAN, IMAGENET_STD, ModelRequest, ModelSpec, find

from .in_process import execute_here

SHAPE: Final = (1, 3, 224, 224)
TOKENS: Final = 16


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    return find(ModelRequest(name="efficientvit_m0", weights="random"))


@pytest.fixture(scope="module")
def original(spec: ModelSpec) -> nn.Module:
    return spec.build()


@pytest.fixture(scope="module")
def photographed(spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("photographed")
    return convert(plan(spec, "tflite", images=8), folder, execute=execute_here, engine="litert")


class Unnormalised(nn.Module):
    """Takes normalised pixels for what they were before."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).reshape(1, 3, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.network(image * self.std + self.mean)  # type: ignore[no-any-return]


class TransposedWeights(LeanHead):
    """The attention matrix is applied the wrong way round."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self._projected(x)
        return (q.transpose(1, 2) @ k.transpose(1, 2) + self.bias).softmax(-1).transpose(1, 2) @ v

    def _projected(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        q, k, v = self.qkv(x).split(self.widths, dim=-1)
        q = self.dw(q.reshape(-1, self.side, self.side, KEY_DIM).permute(0, 3, 1, 2))
        return q.reshape(-1, KEY_DIM, self.side**2), k, v


class TransposedQueries(TransposedWeights):
    """Tokens are taken for channels, which no shape tells where there are 16 of both."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self._projected(x)
        return F.softmax(q @ k.transpose(1, 2) + self.bias, -1) @ v


def swapped_channels(network: LeanEfficientViT) -> nn.Module:
    stem = cast(nn.Conv2d, network.patch_embed[0])
    stem.weight.copy_(stem.weight.flip(1))
    return network


def without_normalisation(network: LeanEfficientViT) -> nn.Module:
    return Unnormalised(network)


def with_heads(kind: type[LeanHead]) -> Callable[[LeanEfficientViT], nn.Module]:
    def changed(network: LeanEfficientViT) -> nn.Module:
        attentions = [layer for layer in network.stages[2].modules() if isinstance(layer, LeanAttention)]
        heads = [cast(LeanHead, head) for attention in attentions for head in attention.heads]
        assert heads
        for head in heads:
            assert (head.side**2, KEY_DIM) == (TOKENS, TOKENS)
            head.__class__ = kind
        return network

    return changed


FAULTS: Final[dict[str, Callable[[LeanEfficientViT], nn.Module]]] = {
    "swapped channels": swapped_channels,
    "no normalisation": without_normalisation,
    "transposed attention": with_heads(TransposedWeights),
    "transposed queries": with_heads(TransposedQueries),
}


def faulty(spec: ModelSpec, original: nn.Module, fault: str) -> nn.Module:
    with torch.no_grad():
        return FAULTS[fault](cast(LeanEfficientViT, copy.deepcopy(spec.deploy(original, None)))).eval()


def in_its_place(artifact: Artifact, content: bytes, folder: Path) -> Artifact:
    """A copy of the artifact whose payload is another, with a manifest that fits."""
    copied = shutil.copytree(artifact.folder, folder / "changed")
    (copied / artifact.manifest.payload).write_bytes(content)
    write_manifest(copied, artifact.manifest.model_copy(update={"files": digests_of(copied)}))
    return read(copied)


def passes(artifact: Artifact, engine: str) -> bool:
    return check(artifact, execute=execute_here, engine=engine).passed


@pytest.mark.parametrize("engine", ["litert", "litert_builtin", "tflite", "tflite_builtin"])
def test_the_file_without_a_fault_passes_in_every_engine(photographed: Artifact, engine: str) -> None:
    assert passes(photographed, engine)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_float_file_with_a_planted_fault_is_refused_in_every_engine(
    spec: ModelSpec, original: nn.Module, photographed: Artifact, tmp_path: Path, fault: str
) -> None:
    graph = direct.graph_of(faulty(spec, original, fault), SHAPE)
    artifact = in_its_place(photographed, write(graph, inputs=["image"], outputs=["logits"]), tmp_path)
    assert not passes(artifact, "litert")
    assert not passes(artifact, "tflite")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("precision", ["w8", "int8"])
def test_the_same_faults_are_refused_before_anything_is_quantized(
    spec: ModelSpec, original: nn.Module, monkeypatch: pytest.MonkeyPatch, precision: str, fault: str
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a faulty graph was quantized")

    def feeds() -> list[NDArray[np.float32]]:
        return [spec.preprocess.normalise(pixels[None]) for pixels in spec.calibration_pixels(2)]

    monkeypatch.setattr(int8, "quantize", never)
    monkeypatch.setattr(weights, "compress", never)
    broken = faulty(spec, original, fault)
    given = feeds if precision == "int8" else None
    with pytest.raises(ParityFailed, match="the float form of the file to be quantized is off by a relative L2 of"):
        direct.graph_of(broken, SHAPE, precision=precision, feeds=given, reference=original)


def test_a_fault_of_the_leaner_form_is_found_before_it_is_quantized(
    spec: ModelSpec, original: nn.Module, tmp_path: Path
) -> None:
    broken = faulty(spec, original, "swapped channels")
    careless = replace(spec, deploy=lambda model, batch: broken)
    conversion = plan(careless, "tflite", precision="int8", calibration_images=2)
    with pytest.raises(ParityFailed, match=r"the (float|deploy) form"):
        CONVERTERS.load("tflite").convert(original, conversion, tmp_path / "model.tflite")
    assert list(tmp_path.iterdir()) == []


def right_zero_points(content: bytes) -> list[int]:
    """Those of the right-hand operands of all int8 products."""
    from ai_edge_litert import schema_py_generated as schema

    model = unpack(content)
    graph = model.subgraphs[0]
    products = [
        operator
        for operator in graph.operators
        if model.operatorCodes[operator.opcodeIndex].builtinCode == schema.BuiltinOperator.BATCH_MATMUL
    ]
    right = [graph.tensors[operator.inputs[1]] for operator in products]
    return [int(tensor.quantization.zeroPoint[0]) for tensor in right if tensor.type == schema.TensorType.INT8]


@pytest.mark.skipif(
    not importlib.metadata.version("ai-edge-litert").startswith("2.1."),
    reason="only LiteRT 2.1 computes products with a right-hand zero point wrongly",
)
@pytest.mark.slow
def test_the_fault_of_litert_in_int8_products_is_refused_and_is_not_in_our_files(
    demo_int8: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(right_zero_points(demo_int8.payload.read_bytes())) == {0}
    assert passes(demo_int8, "litert")
    demo = find(ModelRequest(name="efficientvit_m0", weights="demo"))
    conversion = plan(demo, "tflite", precision="int8", images=16, calibration_images=32)
    # As a writer that knows nothing of the fault would have it.
    monkeypatch.setattr(scales, "_right_operands", lambda graph: [])
    monkeypatch.setattr(int8, "_centred", lambda tensor: tensor.scales)
    CONVERTERS.load("tflite").convert(demo.build(), conversion, tmp_path / "model.tflite")
    content = (tmp_path / "model.tflite").read_bytes()
    assert any(right_zero_points(content))
    artifact = in_its_place(demo_int8, content, tmp_path)
    assert not passes(artifact, "litert")
    assert passes(artifact, "litert_builtin")
