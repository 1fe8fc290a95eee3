"""What a TFLite file really holds: its operators, and the precision of its arithmetic, from the file alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from ...models.errors import BadArtifact
from ..artifact import Quantization, TensorRecord
from ..inspection import Inspection, Layer, images_in
from . import metadata
from .flatbuffer import unpack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LAYERS: Final = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL")


def inspect(path: Path) -> Inspection:
    """What the first subgraph holds, whoever wrote the file; raises `BadArtifact`.

    4-D tensors are taken for `nhwc`, as TFLite's operators have them, unless the file's own description says `nchw`.
    """
    model, layouts = _model(path), _layouts(path)
    try:
        inputs, outputs = (_found_tensors(model, side=side, layouts=layouts) for side in ("inputs", "outputs"))
        layers = tuple(_layers(model, images_in(inputs, outputs)))
        return Inspection(operators=_counted(model), layers=layers, inputs=inputs, outputs=outputs)
    except (IndexError, TypeError, ValueError, AttributeError) as error:
        raise BadArtifact(f"{path}: the TFLite file is damaged: its graph leads nowhere", "convert again") from error


def macs(content: bytes) -> list[int]:
    """Of a file of our own in memory: the MACs at batch 1 of each operator in `LAYERS`, in the order of a run."""
    model = unpack(content)
    images = images_in(*(_found_tensors(model, side=side, layouts={}) for side in ("inputs", "outputs")))
    return [layer.macs for layer in _layers(model, images)]


def histogram(path: Path) -> Counter[str]:
    """How often each operator stands in the file; raises `BadArtifact`."""
    return _counted(_model(path))


def tensors(path: Path, names: Sequence[str], *, side: Literal["inputs", "outputs"], layout: str) -> Any:
    """The records of the signature's inputs or outputs, in the order of `names`; raises `BadArtifact`."""
    model = _model(path)
    if not model.signatureDefs:
        raise BadArtifact(f"{path} has no signature", "convert again")
    signature = {entry.name.decode(): entry.tensorIndex for entry in getattr(model.signatureDefs[0], side)}
    if set(signature) != set(names):
        raise BadArtifact(f"{path}: {side} are {', '.join(sorted(signature))}, not {', '.join(names)}")
    held = model.subgraphs[0].tensors
    return tuple(_record(name, held[signature[name]], layout=layout) for name in names)


def _layouts(path: Path) -> Mapping[str, str]:
    """By name of the tensor, where the file describes itself as ours do."""
    if metadata.CARD.encode() not in path.read_bytes():
        return {}
    card = metadata.read(path)
    return {record.name: record.layout for record in (*card.inputs, *card.outputs)}


def _found_tensors(model: Any, *, side: str, layouts: Mapping[str, str]) -> tuple[TensorRecord, ...]:
    graph = model.subgraphs[0]
    names = {index: _text(graph.tensors[index].name) for index in getattr(graph, side)}
    if model.signatureDefs:
        names |= {entry.tensorIndex: _text(entry.name) for entry in getattr(model.signatureDefs[0], side)}
    return tuple(
        _record(names[index], graph.tensors[index], layout=layouts.get(names[index], "nhwc"))
        for index in getattr(graph, side)
    )


def _record(name: str, tensor: Any, *, layout: Any) -> TensorRecord:
    signature = tensor.shapeSignature if tensor.shapeSignature is not None else _shape(tensor)
    shape = tuple(None if int(size) < 0 else int(size) for size in signature)
    quantized = tensor.quantization is not None and tensor.quantization.scale is not None
    quantization = None
    if quantized and len(tensor.quantization.scale):
        zero_points = tensor.quantization.zeroPoint
        quantization = Quantization(
            scale=float(tensor.quantization.scale[0]), zero_point=0 if zero_points is None else int(zero_points[0])
        )
    return TensorRecord(
        name=name,
        shape=shape,
        dtype=dtype(tensor),
        layout=layout if len(shape) == 4 else "nchw",
        quantization=quantization,
    )


def _layers(model: Any, images: int) -> Iterator[Layer]:
    graph, names = model.subgraphs[0], kinds(model)
    behind = {op.outputs[0]: op.inputs[0] for op in graph.operators if names[op.opcodeIndex] == "DEQUANTIZE"}
    counted: set[int] = set()
    for operator in graph.operators:
        kind = names[operator.opcodeIndex]
        if kind not in LAYERS:
            continue
        # A weight that is stored small has a DEQUANTIZE between it and its layer.
        weight = graph.tensors[behind.get(operator.inputs[1], operator.inputs[1])]
        output = graph.tensors[operator.outputs[0]]
        data = None if weight.buffer == 0 else model.buffers[weight.buffer].data
        yield Layer(
            name=_text((output if data is None else weight).name),
            kind=kind,
            weights=0 if data is None else math.prod(_shape(weight)),
            weight_dtype="" if data is None else dtype(weight),
            weight_bytes=0 if data is None or weight.buffer in counted else len(data) + _scale_bytes(weight),
            arithmetic=dtype(output),
            macs=_macs(kind, operator, graph.tensors) // images,
        )
        counted.add(weight.buffer)


def _macs(kind: str, operator: Any, held: Sequence[Any]) -> int:
    """Of all images in the batch; a free batch stands as 1 in the shapes."""
    output = _shape(held[operator.outputs[0]])
    if kind == "BATCH_MATMUL":
        return math.prod(output) * _shape(held[operator.inputs[0]])[-2 if operator.builtinOptions.adjX else -1]
    places = _shape(held[operator.inputs[2]]) if kind == "TRANSPOSE_CONV" else output
    return math.prod(_shape(held[operator.inputs[1]])) * math.prod(places[:-1])


def _scale_bytes(tensor: Any) -> int:
    quantization = tensor.quantization
    parts = () if quantization is None else (quantization.scale, quantization.zeroPoint)
    return sum(part.nbytes for part in parts if part is not None)


def _counted(model: Any) -> Counter[str]:
    names = kinds(model)
    return Counter(names[operator.opcodeIndex] for operator in model.subgraphs[0].operators)


def kinds(model: Any) -> list[str]:
    """The names of the file's operators; a custom one has its own, one newer than the schema its number."""
    names = _names("BuiltinOperator")
    codes = ((max(code.builtinCode, code.deprecatedBuiltinCode), code.customCode) for code in model.operatorCodes)
    return [_text(custom) if custom else names.get(code, f"operator {code}") for code, custom in codes]


def _shape(tensor: Any) -> tuple[int, ...]:
    return () if tensor.shape is None else tuple(int(size) for size in tensor.shape)


def _text(name: bytes | None) -> str:
    return (name or b"").decode(errors="replace")


def dtype(tensor: Any) -> str:
    """Of a tensor of the file, in lower case."""
    return _names("TensorType").get(tensor.type, f"type {tensor.type}").lower()


def _model(path: Path) -> Any:
    try:
        return unpack(path.read_bytes())
    except BadArtifact as error:
        raise BadArtifact(f"{path}: {error.message}", error.hint or "convert again") from error
    except OSError as error:
        raise BadArtifact(f"{path} cannot be read: {error.strerror or error}", "convert again") from error
    except Exception as error:
        # The generated reader fails in every way there is on bytes that are no flatbuffer.
        raise BadArtifact(f"{path} is not a TFLite file: {type(error).__name__}", "convert again") from error


@cache
def _names(enum: str) -> Mapping[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return {value: name for name, value in vars(getattr(schema, enum)).items() if isinstance(value, int)}
