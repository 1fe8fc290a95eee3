"""What an ONNX file really holds: its operators and layers, and the dtypes of its weights and arithmetic."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ...models.errors import BadArtifact
from ..artifact import TensorRecord
from ..inspection import Inspection, Layer, images_in

if TYPE_CHECKING:
    import onnx

# The operators that multiply, and which two of their inputs.
FACTORS: Final = {
    **dict.fromkeys(("Conv", "ConvInteger", "ConvTranspose", "Gemm", "MatMul", "MatMulInteger"), (0, 1)),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul"), (0, 3)),
}
# A constant in front of these is what the file stores.
IN_BETWEEN: Final = ("Cast", "DequantizeLinear", "Identity", "Reshape", "Transpose")


def inspect(path: Path) -> Inspection:
    """What the main graph holds, weights in files beside it included; raises `BadArtifact`."""
    model = _loaded(path)
    try:
        return of(model)
    except (IndexError, KeyError, ValueError) as error:
        raise BadArtifact(f"{path}: the ONNX file is damaged: its graph leads nowhere", "convert again") from error


def _loaded(path: Path) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise BadArtifact(f"{path} cannot be read: {error.strerror or error}", "convert again") from error
    except DecodeError as error:
        raise BadArtifact(f"{path} is not an ONNX file, or ends early", "convert again") from error
    if not model.HasField("graph"):
        raise BadArtifact(f"{path} is not an ONNX file: it has no graph", "convert again")
    return model


def of(model: onnx.ModelProto) -> Inspection:
    """What a model in memory holds; raises `IndexError`, `KeyError` or `ValueError` where its graph leads nowhere."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_record(value) for value in model.graph.input if value.name not in weights)
    outputs = tuple(_record(value) for value in model.graph.output)
    return Inspection(
        operators=Counter(
            node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
            for node in model.graph.node
        ),
        layers=tuple(_layers(_with_shapes(model).graph, images_in(inputs, outputs))),
        inputs=inputs,
        outputs=outputs,
    )


def macs(model: onnx.ModelProto) -> dict[str, int]:
    """MACs at batch 1 by the name of the node."""
    multiplying = (node for node in model.graph.node if node.op_type in FACTORS)
    return {node.name: layer.macs for node, layer in zip(multiplying, of(model).layers, strict=True)}


def _record(value: onnx.ValueInfoProto) -> TensorRecord:
    tensor = value.type.tensor_type
    shape = tuple(side.dim_value if side.HasField("dim_value") else None for side in tensor.shape.dim)
    return TensorRecord(name=value.name, shape=shape, dtype=_dtype(tensor.elem_type))


def _with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with the shapes of all tensors that can be inferred; a free batch is 1 there."""
    import onnx

    given, model = model, onnx.ModelProto()
    model.CopyFrom(given)
    for value in model.graph.input:
        batch = value.type.tensor_type.shape.dim[:1]
        if batch and not batch[0].HasField("dim_value"):
            batch[0].dim_value = 1
            # What stands there of other tensors is meant for any batch.
            del model.graph.value_info[:]
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception:
        # An operator set that is newer than the installed package, or a file beyond protobuf's 2 GB.
        return model


class _Tensors:
    """What is known of a graph's tensors, by name."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.types = {value.name: value.type.tensor_type for value in (*graph.input, *graph.value_info, *graph.output)}
        self.dequantized = {node.output[0]: node.input for node in graph.node if node.op_type == "DequantizeLinear"}
        self.stored: dict[str, str] = {}
        for node in graph.node:
            if node.op_type == "Constant":
                held = {part.name: part.t for part in node.attribute}
                self.constants |= {name: held["value"] for name in node.output if "value" in held}
            elif node.op_type in IN_BETWEEN:
                self.stored[node.output[0]] = self.stored.get(node.input[0], node.input[0])

    def constant(self, name: str) -> str | None:
        """The name of the constant that `name` is, or is made from."""
        source = self.stored.get(name, name)
        return source if source in self.constants else None

    def shape(self, name: str) -> tuple[int, ...] | None:
        """None where a size is unknown."""
        if name in self.constants:
            return tuple(self.constants[name].dims)
        if name not in self.types or not self.types[name].HasField("shape"):
            return None
        sides = self.types[name].shape.dim
        return tuple(side.dim_value for side in sides) if all(side.HasField("dim_value") for side in sides) else None

    def arithmetic(self, name: str, factors: Sequence[str]) -> str:
        """The dtype in which `name` is multiplied: that before DequantizeLinear if one stands at both factors."""
        if all(factor in self.dequantized for factor in factors):
            name = self.dequantized[name][0]
        return _dtype(self.types[name].elem_type) if name in self.types else "unknown"


def _layers(graph: onnx.GraphProto, images: int) -> Iterator[Layer]:
    tensors = _Tensors(graph)
    counted: set[str | None] = {None}
    for node in graph.node:
        if node.op_type not in FACTORS:
            continue
        factors = [node.input[index] for index in FACTORS[node.op_type]]
        # A matrix of weights may stand on either side.
        held = [factor for factor in reversed(factors) if tensors.constant(factor)][:1]
        (activation, *_) = [factor for factor in factors if factor not in held] or factors
        name = tensors.constant(held[0]) if held else None
        weight = tensors.constants[name] if name else None
        scales = tensors.dequantized.get(held[0], ())[1:] if held else ()
        parts = {name, *map(tensors.constant, scales)} - counted
        counted |= parts
        yield Layer(
            name=name or node.name or node.output[0],
            kind=node.op_type,
            weights=math.prod(weight.dims) if weight else 0,
            weight_dtype=_dtype(weight.data_type) if weight else "",
            weight_bytes=sum(_stored_bytes(tensors.constants[part]) for part in parts if part),
            arithmetic=tensors.arithmetic(activation, factors),
            macs=_macs(node, tensors) // images,
        )


def _macs(node: onnx.NodeProto, tensors: _Tensors) -> int:
    """Of all images in the batch; 0 where a shape is unknown."""
    first, second = (tensors.shape(node.input[index]) for index in FACTORS[node.op_type])
    output = tensors.shape(node.output[0])
    if first is None or second is None or output is None:
        return 0
    if "Conv" in node.op_type:
        return math.prod(first if node.op_type == "ConvTranspose" else output) * math.prod(second[1:])
    turned = any(part.name == "transA" and part.i for part in node.attribute)
    return math.prod(output) * first[0 if turned else -1]


def _stored_bytes(tensor: onnx.TensorProto) -> int:
    import onnx

    four = _dtype(tensor.data_type).endswith("int4")
    bits: int = 4 if four else 8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    count: int = math.prod(tensor.dims)
    return math.ceil(count * bits / 8)


def _dtype(number: int) -> str:
    import onnx

    name: str = onnx.TensorProto.DataType.Name(number).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)
