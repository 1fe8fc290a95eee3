"""Small TFLite files, written by hand with the schema's own classes: no TensorFlow, no converter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder
from numpy.typing import NDArray

TYPES = {"float32": schema.TensorType.FLOAT32, "int8": schema.TensorType.INT8, "int32": schema.TensorType.INT32}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """None as first size is a dynamic batch; `data` makes it a constant."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str = "float32"
    data: NDArray[Any] | None = None
    scale: float | None = None
    zero_point: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """An operator with the names of its tensors; `options` are fields of its table."""

    kind: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    options_type: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1


def file(
    tensors: Sequence[Tensor],
    ops: Sequence[Op],
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    signature: tuple[Mapping[str, str], Mapping[str, str]] | None = None,
) -> bytes:
    """The file's bytes; `signature` maps names of inputs and of outputs to names of tensors."""
    index = {tensor.name: number for number, tensor in enumerate(tensors)}
    model = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT()]
    graph = schema.SubGraphT()
    graph.tensors = [_tensor(tensor, model.buffers) for tensor in tensors]
    graph.inputs, graph.outputs = [index[name] for name in inputs], [index[name] for name in outputs]
    graph.operators = [_operator(op, number, index) for number, op in enumerate(ops)]
    model.operatorCodes = [_code(op) for op in ops]
    model.subgraphs = [graph]
    if signature:
        model.signatureDefs = [_signature(signature, index)]
    builder = Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(tensor: Tensor, buffers: list[Any]) -> Any:
    record = schema.TensorT()
    record.name = tensor.name.encode()
    record.type = TYPES[tensor.dtype]
    record.shape = [size or 1 for size in tensor.shape]
    record.shapeSignature = [size or -1 for size in tensor.shape]
    record.buffer = 0
    if tensor.data is not None:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(tensor.data.tobytes(), np.uint8)
        record.buffer = len(buffers)
        buffers.append(buffer)
    if tensor.scale is not None:
        record.quantization = schema.QuantizationParametersT()
        record.quantization.scale = np.array([tensor.scale], np.float32)
        record.quantization.zeroPoint = np.array([tensor.zero_point], np.int64)
    return record


def _operator(op: Op, code: int, index: Mapping[str, int]) -> Any:
    record = schema.OperatorT()
    record.opcodeIndex = code
    record.inputs, record.outputs = [index[name] for name in op.inputs], [index[name] for name in op.outputs]
    if op.options_type:
        record.builtinOptionsType = getattr(schema.BuiltinOptions, op.options_type)
        record.builtinOptions = getattr(schema, f"{op.options_type}T")()
        for name, value in op.options.items():
            setattr(record.builtinOptions, name, value)
    return record


def _code(op: Op) -> Any:
    record = schema.OperatorCodeT()
    record.builtinCode = record.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, op.kind)
    record.version = op.version
    return record


def _signature(signature: tuple[Mapping[str, str], Mapping[str, str]], index: Mapping[str, int]) -> Any:
    record = schema.SignatureDefT()
    record.signatureKey = b"serving_default"
    record.subgraphIndex = 0
    record.inputs, record.outputs = ([_entry(*item, index) for item in part.items()] for part in signature)
    return record


def _entry(name: str, tensor: str, index: Mapping[str, int]) -> Any:
    record = schema.TensorMapT()
    record.name, record.tensorIndex = name.encode(), index[tensor]
    return record
