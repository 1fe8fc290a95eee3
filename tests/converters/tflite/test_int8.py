"""What TFLite's 8-bit specification demands of an int8 file, and that files of small networks still compute."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from evit_edge.converters.tflite import direct
from evit_edge.converters.tflite.graph import Graph, Operator
from evit_edge.converters.tflite.simplify import WEIGHTED

from .engines import ENGINES, Do, File, cosines, expected, is_one_partition, kinds, to_file, written
from .networks import NETWORKS, SIZE, network, normed
from .photographs import photographs

Edge = Literal["float", "int8", "uint8"]


def quantized(module: nn.Module, images: NDArray[Any], *, edge: Edge = "float", batch: int | None = None) -> Graph:
    shape = (batch, *images.shape[1:])
    return direct.graph_of(
        module.eval(), shape, precision="int8", edge=edge, feeds=lambda: (image[None] for image in images)
    )


def noise(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@cache
def small(name: str) -> Graph:
    return quantized(network(name), photographs(32, SIZE, training=True))


def of_kind(graph: Graph, *wanted: str) -> list[Operator]:
    return [operator for operator in graph.operators if operator.kind in wanted and operator.outputs[0].dtype == "int8"]


def maker_dtypes(graph: Graph, kind: str) -> set[str]:
    return {op.outputs[0].dtype for op in graph.operators if op.kind == kind}


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_have_a_scale_a_channel_and_biases_that_of_the_products(name: str) -> None:
    layers = of_kind(small(name), *WEIGHTED)
    assert layers
    for layer in layers:
        x, weight, bias = layer.inputs
        assert x is not None
        assert weight is not None
        assert bias is not None
        assert x.scales
        assert weight.scales
        assert bias.scales
        axis = 3 if layer.kind == "DEPTHWISE_CONV_2D" else 0
        assert (x.dtype, weight.dtype, bias.dtype) == ("int8", "int8", "int32")
        assert weight.scales.axis == axis
        assert len(weight.scales.scale) == weight.shape[axis]
        assert not weight.scales.zero_point.any()
        assert not bias.scales.zero_point.any()
        np.testing.assert_allclose(bias.scales.scale, x.scales.scale * weight.scales.scale, rtol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_operators_that_move_numbers_leave_them_on_their_scale(name: str) -> None:
    for operator in of_kind(small(name), "CONCATENATION", "RESHAPE", "MAX_POOL_2D", "TRANSPOSE", "SPLIT", "PAD"):
        tensors = [t for t in (*operator.inputs, *operator.outputs) if t is not None and t.dtype == "int8"]
        assert len({(float(t.scales.scale[0]), int(t.scales.zero_point[0])) for t in tensors if t.scales}) == 1


def test_the_right_matrix_of_a_product_is_symmetric() -> None:
    products = of_kind(small("ViT"), "BATCH_MATMUL")
    assert len(products) == 4
    assert all(product.inputs[1].scales.zero_point[0] == 0 for product in products)  # type: ignore[union-attr]


@pytest.mark.parametrize("gate", [torch.sigmoid, lambda x: x.softmax(-1), torch.tanh, torch.relu])
def test_the_right_matrix_is_symmetric_whatever_makes_it(gate: Callable[[torch.Tensor], torch.Tensor]) -> None:
    layer = nn.Linear(6, 6)
    module, images = Do(lambda x: layer(x) @ gate(layer(x))), noise(16, 5, 6, 6)
    graph = quantized(module, images)
    (product,) = of_kind(graph, "BATCH_MATMUL")
    assert product.inputs[1].scales.zero_point[0] == 0  # type: ignore[union-attr]
    close(graph, module, images, 0.99)


def test_softmax_and_sigmoid_have_the_scale_of_the_specification() -> None:
    layer = nn.Linear(6, 6)
    images = noise(8, 5, 6)
    graph = quantized(Do(lambda x: layer(layer(x).softmax(-1)) * layer(x).sigmoid()), images)
    made = [op.inputs[0] for op in of_kind(graph, "FULLY_CONNECTED")]
    fixed = [t for t in (*made, *(op.output for op in of_kind(graph, "LOGISTIC"))) if t and t.name != "x"]
    assert len(fixed) == 2
    for tensor in fixed:
        assert tensor.scales is not None
        assert tensor.scales.scale[0] == np.float32(1 / 256)
        assert tensor.scales.zero_point[0] == -128
    assert maker_dtypes(graph, "SOFTMAX") == {"float32"}


def test_a_relu_is_a_change_of_scale_only_where_zero_is_the_lowest_step() -> None:
    first, second = nn.Linear(6, 6), nn.Linear(6, 6)
    images = noise(16, 5, 6)

    def alone(x: torch.Tensor) -> Any:
        y = first(x)
        return second(y.relu() * y)

    def beside(x: torch.Tensor) -> Any:
        y = first(x)
        return second(torch.cat([y.relu(), y, y[:, :2]], 1))

    for function, count in ((alone, 0), (beside, 1)):
        graph = quantized(Do(function), images)
        assert len([op for op in graph.operators if op.kind == "RELU"]) == count
        for operator in graph.operators:
            if operator.kind == "QUANTIZE" and operator.inputs[0].dtype == "int8":  # type: ignore[union-attr]
                assert operator.output.scales.zero_point[0] == -128  # type: ignore[union-attr]
        close(graph, Do(function), images, 0.99)


def close(graph: Graph, module: nn.Module, images: NDArray[Any], least: float) -> None:
    """In every engine, on the images of the calibration."""
    (reference,) = expected(module, images)
    content = written(graph)
    for engine in ENGINES:
        file = File(content, engine)
        given = file.engine.get_input_details()[0]
        scale, zero_point = given["quantization"]
        x = to_file(images)
        if given["dtype"] != np.float32:
            limits = np.iinfo(given["dtype"])
            x = np.round(x / scale + zero_point).clip(limits.min, limits.max).astype(given["dtype"])
        y = np.concatenate([file.run(x[at : at + 1])[0].copy() for at in range(len(x))])
        taken = file.engine.get_output_details()[0]
        if taken["dtype"] != np.float32:
            y = (y.astype(np.float32) - taken["quantization"][1]) * taken["quantization"][0]
        y = y.transpose(0, 3, 1, 2) if y.ndim == 4 else y
        assert np.isfinite(y).all(), engine
        assert cosines(y, reference).mean() >= least, engine


@pytest.mark.parametrize("name", NETWORKS)
def test_small_networks_agree_with_float(name: str) -> None:
    close(small(name), network(name), photographs(16, SIZE, training=True), 0.99)


@pytest.mark.parametrize("name", NETWORKS)
def test_all_of_an_int8_network_is_one_partition(name: str) -> None:
    assert is_one_partition(written(small(name)))


@pytest.mark.parametrize("edge", ["int8", "uint8"])
@pytest.mark.parametrize("name", ["MobileNetV2", "ViT"])
def test_edges_of_integers(name: str, edge: Edge) -> None:
    images = photographs(16, SIZE, training=True)
    graph = quantized(network(name), images, edge=edge, batch=1)
    assert [tensor.dtype for tensor in (*graph.inputs, *graph.outputs)] == [edge, edge]
    close(graph, network(name), images, 0.99)


@pytest.mark.parametrize("name", ["ViT", "ConvNeXt"])
def test_layer_norms_stay_float(name: str) -> None:
    graph = small(name)
    assert maker_dtypes(graph, "RSQRT") == maker_dtypes(graph, "SUB") == {"float32"}
    assert of_kind(graph, "FULLY_CONNECTED")


def test_what_residual_branches_are_added_to_stays_float() -> None:
    for name in ("MobileNetV2", "ResNet", "ViT"):
        assert maker_dtypes(small(name), "ADD") == {"float32"}
    assert maker_dtypes(small("MobileNetV2"), "DEPTHWISE_CONV_2D") == {"int8"}


def layer_of(change: Callable[[Any], Any]) -> nn.Module:
    torch.manual_seed(0)
    stem, layer = normed(3, 8, 3, nn.ReLU(), stride=2), nn.Conv2d(8, 8, 3)
    with torch.no_grad():
        change(layer)
    return nn.Sequential(stem, layer, nn.ReLU(), nn.Conv2d(8, 4, 1)).requires_grad_(False)


STRANGE: dict[str, Callable[[Any], Any]] = {
    "a channel of zeros": lambda layer: layer.weight[0].zero_(),
    "zeros": lambda layer: (layer.weight.zero_(), layer.bias.zero_()),
    "zeros and a bias": lambda layer: layer.weight.zero_(),
    "tiny weights": lambda layer: layer.weight.mul_(1e-12),
    "a channel of tiny weights": lambda layer: layer.weight[0].mul_(1e-20),
    "huge weights": lambda layer: layer.weight.mul_(1e10),
    "a huge bias": lambda layer: layer.bias[0].add_(1e5),
    "a dead layer": lambda layer: layer.bias.sub_(1e3),
    "one weight far out": lambda layer: layer.weight[0, 0, 0, 0].add_(1e4),
}


@pytest.mark.parametrize("name", STRANGE)
def test_strange_weights_do_no_harm(name: str) -> None:
    module, images = layer_of(STRANGE[name]), noise(8, 3, 16, 16)
    close(quantized(module, images), module, images, 0.99)


@pytest.mark.parametrize("factor", [0.0, 1e-9, 1e9])
def test_images_of_any_size_do_no_harm(factor: float) -> None:
    module = layer_of(lambda layer: None)
    images = noise(8, 3, 16, 16) * np.float32(factor)
    close(quantized(module, images), module, images, 0.99)


def test_one_image_far_out_does_no_harm() -> None:
    module, images = layer_of(lambda layer: None), noise(8, 3, 16, 16)
    images[0, 0, 0, 0] = 1e8
    graph = quantized(module, images)
    for engine in ENGINES:
        assert np.isfinite(File(written(graph), engine).run(to_file(images[:1]))[0]).all()


TABLE = torch.linspace(-3, 3, 40).reshape(1, 5, 8)
CONSTANTS: dict[str, Callable[[torch.Tensor], Any]] = {
    "sum": lambda x: x + TABLE,
    "product": lambda x: x * TABLE,
    "difference": lambda x: TABLE - x,
    "concatenated": lambda x: torch.cat([TABLE.expand(x.shape[0], -1, -1), x], 1),
    "concatenated, larger": lambda x: torch.cat([x, 20 * TABLE.expand(x.shape[0], -1, -1)], 1),
    "maximum": lambda x: torch.maximum(x, TABLE),
    "minimum": lambda x: x.clamp(-0.5, 40),
    "scalar": lambda x: 2.5 * x,
    "matrix": lambda x: TABLE @ x.mT,
    "padded by a value": lambda x: nn.functional.pad(x, (1, 1), value=-1.0),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_that_are_no_weights(name: str) -> None:
    torch.manual_seed(0)
    before, images = nn.Linear(6, 8), noise(16, 5, 6)
    module = Do(lambda x: CONSTANTS[name](before(x)).mean(-1, keepdim=True) + CONSTANTS[name](before(x)))
    close(quantized(module, images, batch=1), module, images, 0.99)


def test_a_pool_that_is_padded_below_everything_has_the_scale_of_its_map() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 4, 1)).requires_grad_(False)
    images = noise(8, 3, 18, 18)
    graph = quantized(module, images)
    assert "PADV2" in kinds(graph)
    close(graph, module, images, 0.995)


def test_masked_scores_keep_their_scale() -> None:
    torch.manual_seed(0)
    layer, mask = nn.Linear(6, 18), torch.ones(5, 5, dtype=torch.bool).tril()

    def attend(x: torch.Tensor) -> Any:
        q, k, v = layer(x).split(6, -1)
        return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    images = noise(16, 5, 6)
    close(quantized(Do(attend), images), Do(attend), images, 0.99)
