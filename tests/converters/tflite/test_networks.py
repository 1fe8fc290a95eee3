"""Whole networks against PyTorch on photographs, in every engine."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import nn

from evit_edge.converters.tflite import direct
from evit_edge.converters.tflite.graph import Graph
from evit_edge.models.spec import ModelRequest, find

from .engines import ENGINES, File, cosines, expected, is_one_partition, kinds, to_file, written
from .networks import NETWORKS, SIZE, network
from .photographs import photographs

COUNT = 64


@cache
def float_file(name: str, precision: str) -> bytes:
    module = network(name, centred=precision == "fp32")
    return written(direct.graph_of(module, (None, 3, SIZE, SIZE), precision=precision))


def outputs(content: bytes, engine: str, images: NDArray[Any], batch: int) -> NDArray[Any]:
    file, laid_out = File(content, engine), to_file(images)
    return np.concatenate([file.run(laid_out[at : at + batch])[0].copy() for at in range(0, len(images), batch)])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str, engine: str) -> None:
    images = photographs(COUNT, SIZE)
    (reference,) = expected(network(name, centred=True), images)
    assert len(set(reference.argmax(1))) > 1
    found = outputs(float_file(name, "fp32"), engine, images, 16)
    assert cosines(found, reference).min() >= 0.999999
    assert (found.argmax(1) == reference.argmax(1)).all()


@pytest.mark.parametrize(
    ("name", "precision", "least"),
    [*((name, "fp16", 0.99999) for name in NETWORKS), ("ResNet", "w8", 0.99), ("ConvNeXt", "w8", 0.99)],
)
def test_networks_with_smaller_weights(name: str, precision: str, least: float) -> None:
    images = photographs(8, SIZE)
    (reference,) = expected(network(name), images)
    content = float_file(name, precision)
    assert len(content) < len(float_file(name, "fp32"))
    for engine in ENGINES:
        assert cosines(outputs(content, engine, images, 8), reference).min() >= least, engine


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("MobileNetV2", {"TRANSPOSE", "MUL", "RELU6", "RESHAPE"}),
        ("MobileNetV3", {"TRANSPOSE", "RESHAPE"}),
        ("ResNet", {"TRANSPOSE", "MUL", "RELU", "PADV2", "RESHAPE"}),
        ("ConvNeXt", {"TRANSPOSE", "RESHAPE"}),
    ],
)
def test_networks_of_convolutions_are_lean(name: str, without: set[str]) -> None:
    found = kinds(direct.graph_of(network(name), (1, 3, SIZE, SIZE)))
    assert not without & set(found)


@pytest.mark.parametrize("name", NETWORKS)
def test_all_of_a_network_is_one_partition(name: str) -> None:
    assert is_one_partition(float_file(name, "fp32"))


@cache
def deployed(name: str) -> tuple[nn.Module, Graph]:
    spec = find(ModelRequest(name=name, weights="random"))
    module = spec.deploy(spec.build(), None)
    return module, direct.graph_of(module, (None, 3, 224, 224))


def close_to_torch(name: str, engine: str) -> None:
    module, graph = deployed(name)
    images = photographs(COUNT, 224)
    (reference,) = expected(module, images)
    found = outputs(written(graph), engine, images, 1)
    assert cosines(found, reference).min() >= 0.999999
    assert (found.argmax(1) == reference.argmax(1)).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_efficientvit_m0(engine: str) -> None:
    close_to_torch("efficientvit_m0", engine)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", [f"efficientvit_m{index}" for index in range(1, 6)])
def test_larger_efficientvits(name: str, engine: str) -> None:
    close_to_torch(name, engine)


def test_efficientvit_m0_is_lean() -> None:
    _, graph = deployed("efficientvit_m0")
    counted = Counter(kinds(graph))
    assert len(graph.operators) <= 433
    assert counted["TRANSPOSE"] == 2
    makers = graph.producers()
    chains = [op for op in graph.operators if op.kind == "RESHAPE" and op.inputs[0] in makers]
    assert not any(makers[op.inputs[0]].kind == "RESHAPE" for op in chains if op.inputs[0] is not None)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "w8"])
def test_all_of_efficientvit_m0_is_one_partition(precision: str) -> None:
    module, _ = deployed("efficientvit_m0")
    assert is_one_partition(written(direct.graph_of(module, (None, 3, 224, 224), precision=precision)))


@pytest.mark.parametrize("engine", ENGINES)
def test_efficientvit_m0_takes_any_batch(engine: str) -> None:
    module, graph = deployed("efficientvit_m0")
    images = photographs(COUNT, 224)[:5]
    (reference,) = expected(module, images)
    for batch in (1, 2, 5):
        assert cosines(outputs(written(graph), engine, images, batch), reference).min() >= 0.999999
