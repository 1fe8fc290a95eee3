"""int8 weights behind DequantizeLinear: a scale an output channel whatever the layer, and faults that are caught."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from evit_edge.converters.onnx import inspection, w8
from evit_edge.converters.onnx.engine import session
from evit_edge.models.errors import ParityFailed

Array = NDArray[Any]
RNG = np.random.default_rng(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """`axis` is where its weights have the output channels, `channels` where its result has them."""

    kind: str
    weights: tuple[int, ...]
    axis: int
    image: tuple[int, ...]
    result: tuple[int, ...]
    channels: int
    left: bool = False
    attributes: Mapping[str, Any] = field(default_factory=dict)


LAYERS = {
    "convolution": Layer(
        kind="Conv", weights=(48, 64, 1, 1), axis=0, image=(1, 64, 4, 4), result=(1, 48, 4, 4), channels=1
    ),
    "depthwise": Layer(
        kind="Conv",
        weights=(256, 1, 3, 3),
        axis=0,
        image=(1, 256, 4, 4),
        result=(1, 256, 2, 2),
        channels=1,
        attributes={"group": 256},
    ),
    "linear": Layer(
        kind="Gemm", weights=(48, 64), axis=0, image=(2, 64), result=(2, 48), channels=1, attributes={"transB": 1}
    ),
    "linear, turned": Layer(kind="Gemm", weights=(64, 48), axis=1, image=(2, 64), result=(2, 48), channels=1),
    "linear, left": Layer(kind="Gemm", weights=(48, 64), axis=0, image=(64, 2), result=(48, 2), channels=0, left=True),
    "linear, left, turned": Layer(
        kind="Gemm",
        weights=(64, 48),
        axis=1,
        image=(64, 2),
        result=(48, 2),
        channels=0,
        left=True,
        attributes={"transA": 1},
    ),
    "product": Layer(kind="MatMul", weights=(64, 48), axis=1, image=(1, 2, 64), result=(1, 2, 48), channels=2),
    "product, left": Layer(
        kind="MatMul", weights=(1, 48, 64), axis=1, image=(1, 64, 2), result=(1, 48, 2), channels=1, left=True
    ),
}


def noise(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def spread(values: Array, rank: int, axis: int) -> Array:
    """A value a channel, ready to be multiplied."""
    return values.reshape([-1 if side == axis else 1 for side in range(rank)])


def network(layer: Layer, weights: Array) -> onnx.ModelProto:
    names = ["w", "x"] if layer.left else ["x", "w"]
    node = helper.make_node(layer.kind, names, ["y"], **layer.attributes)
    ends = {"x": layer.image, "y": layer.result}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ends.items()]
    graph = helper.make_graph([node], "layer", values[:1], values[1:], [numpy_helper.from_array(weights, "w")])
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model


def answer(model: onnx.ModelProto, image: Array, *, literal: bool = False) -> Array:
    (result,) = session(model.SerializeToString(), literal=literal).run(None, {"x": image})
    return np.asarray(result)


def stored(model: onnx.ModelProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_every_output_channel_has_its_own_scale(layer: Layer) -> None:
    count = layer.weights[layer.axis]
    sizes = 10.0 ** (np.arange(count, dtype=np.float32) % 5 - 2)
    floating = network(layer, noise(*layer.weights) * spread(sizes, len(layer.weights), layer.axis))
    small = w8.compress(floating)
    onnx.checker.check_model(small, full_check=True)
    w8.prove(floating, small)
    assert stored(small)["w"].dtype == np.int8
    assert stored(small)["w_scale"].shape == (count,)
    pixels = noise(*layer.image)
    want, got = (
        np.moveaxis(answer(model, pixels), layer.channels, 0).reshape(count, -1) for model in (floating, small)
    )
    lost = np.linalg.norm(got - want, axis=1) / np.linalg.norm(want, axis=1)
    assert 0 < lost.max() < 0.1


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_it_computes_with_scale_times_integer_and_nothing_else(layer: Layer) -> None:
    small = w8.compress(network(layer, noise(*layer.weights)))
    integers, scale = stored(small)["w"], stored(small)["w_scale"]
    expanded = network(layer, integers * spread(scale, integers.ndim, layer.axis))
    pixels = noise(*layer.image)
    np.testing.assert_array_equal(answer(small, pixels, literal=True), answer(expanded, pixels, literal=True))
    np.testing.assert_allclose(answer(small, pixels), answer(expanded, pixels), rtol=1e-5, atol=1e-5)


@given(
    arrays(
        np.float32,
        array_shapes(min_dims=2, max_dims=4, max_side=5),
        elements=st.floats(-1e6, 1e6, width=32),
    ),
    st.data(),
)
def test_no_weight_is_off_by_more_than_half_a_step(weights: Array, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, weights.ndim - 1))
    integers, scale = w8.rounded(weights, axis)
    steps = spread(scale.astype(np.float64), weights.ndim, axis)
    assert [integers.dtype, scale.dtype] == [np.dtype("int8"), np.dtype("float32")]
    assert scale.shape == (weights.shape[axis],)
    assert integers.min() >= -127
    assert (np.abs(weights - integers * steps) <= 0.5001 * steps).all()


def test_a_channel_of_zeros_stays_zero() -> None:
    layer = LAYERS["convolution"]
    weights = noise(*layer.weights)
    weights[3] = 0
    found = answer(w8.compress(network(layer, weights)), noise(*layer.image))
    assert np.isfinite(found).all()
    assert not found[:, 3].any()


def test_small_tensors_and_those_that_are_read_in_two_ways_stay_float() -> None:
    width = 64
    names = {"small": (width, width // 4), "rows and columns": (width, width), "added too": (width, width)}
    weights = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in names.items()]
    nodes = [
        helper.make_node("MatMul", ["x", "rows and columns"], ["a"]),
        helper.make_node("MatMul", ["rows and columns", "a"], ["b"]),
        helper.make_node("MatMul", ["b", "added too"], ["c"]),
        helper.make_node("Add", ["c", "added too"], ["d"]),
        helper.make_node("MatMul", ["d", "small"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, [width, None]) for end in "xy"]
    graph = helper.make_graph(nodes, "read twice", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    assert w8.compress(model) == model


def without_its_weights(model: onnx.ModelProto) -> None:
    model.graph.node[1].input[1] = "x"


def with_a_wrong_scale(model: onnx.ModelProto) -> None:
    scale = model.graph.initializer[1]
    scale.CopyFrom(numpy_helper.from_array(np.roll(numpy_helper.to_array(scale), 1), scale.name))


def with_a_scale_that_is_no_number(model: onnx.ModelProto) -> None:
    scale = model.graph.initializer[1]
    scale.CopyFrom(numpy_helper.from_array(np.full_like(numpy_helper.to_array(scale), np.nan), scale.name))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_its_weights, "the layer of w lost its weights"),
        (with_a_wrong_scale, "the w8 weights of w are off by a relative L2"),
        (with_a_scale_that_is_no_number, "the w8 weights of w are off by a relative L2 of nan"),
    ],
)
def test_a_layer_that_did_not_keep_its_weights_is_named(damage: Any, message: str) -> None:
    layer = LAYERS["linear"]
    sizes = np.geomspace(1, 10, layer.weights[0], dtype=np.float32)
    floating = network(layer, noise(*layer.weights) * sizes[:, None])
    small = w8.compress(floating)
    w8.prove(floating, small)
    damage(small)
    with pytest.raises(ParityFailed, match=message):
        w8.prove(floating, small)


def test_what_is_found_in_the_file_is_w8(tmp_path: Path) -> None:
    layer = LAYERS["linear"]
    onnx.save(w8.compress(network(layer, noise(*layer.weights))), tmp_path / "model.onnx")
    found = inspection.inspect(tmp_path / "model.onnx")
    assert found.precision == "w8"
    assert [(layer.name, layer.weight_dtype, layer.arithmetic) for layer in found.layers] == [("w", "int8", "float32")]
    assert found.weight_bytes == 48 * 64 + 4 * 48
