"""From a graph to the bytes of a TFLite file, with the schema classes that ai-edge-litert ships."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from .flatbuffer import SIGNATURE, pack
from .graph import BATCH, Graph, Operator, Tensor

if TYPE_CHECKING:
    pass

DESCRIPTION: Final = b"evit-edge"
# The table of options of each operator; None for those that have none.
OPTIONS: Final[dict[str, str | None]] = {
    "ABS": "AbsOptions",
    "ADD": "AddOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "BROADCAST_TO": "BroadcastToOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "DEQUANTIZE": "DequantizeOptions",
    "DIV": "DivOptions",
    "ELU": None,
    "EXP": "ExpOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "GELU": "GeluOptions",
    "HARD_SWISH": "HardSwishOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "LOGISTIC": None,
    "MAXIMUM": "MaximumMinimumOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "MUL": "MulOptions",
    "NEG": "NegOptions",
    "PAD": "PadOptions",
    "PADV2": "PadV2Options",
    "POW": "PowOptions",
    "QUANTIZE": "QuantizeOptions",
    "RELU": None,
    "RELU6": None,
    "RELU_N1_TO_1": None,
    "RESHAPE": "ReshapeOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "RSQRT": None,
    "SLICE": "SliceOptions",
    "SOFTMAX": "SoftmaxOptions",
    "SPLIT": "SplitOptions",
    "SPLIT_V": "SplitVOptions",
    "SQRT": None,
    "STRIDED_SLICE": "StridedSliceOptions",
    "SUB": "SubOptions",
    "TANH": None,
    "TRANSPOSE": "TransposeOptions",
}

# The lowest version of an operator that knows what is used here; TFLite's op_version.cc is the source.
VERSIONS: Final[dict[tuple[str, str], int]] = {
    ("CONV_2D", "int8"): 3,
    ("DEPTHWISE_CONV_2D", "int8"): 3,
    ("FULLY_CONNECTED", "int8"): 4,
    ("DEQUANTIZE", "int8"): 2,
    ("DEQUANTIZE", "uint8"): 1,
    ("DEQUANTIZE", "float16"): 3,
    ("QUANTIZE", "int8"): 2,
    ("QUANTIZE", "uint8"): 2,
    **{
        (kind, "int8"): 2
        for kind in (
            "ADD", "AVERAGE_POOL_2D", "BATCH_MATMUL", "CONCATENATION", "LEAKY_RELU", "LOGISTIC", "MAXIMUM",
            "MAX_POOL_2D", "MEAN", "MINIMUM", "MUL", "PAD", "PADV2", "RELU", "RELU6", "RESIZE_BILINEAR",
            "RESIZE_NEAREST_NEIGHBOR", "SLICE", "SOFTMAX", "SPLIT", "SPLIT_V", "STRIDED_SLICE", "SUB", "TANH",
            "TRANSPOSE",
        )
    },
    ("RESIZE_BILINEAR", "float32"): 3,
    ("RESIZE_NEAREST_NEIGHBOR", "float32"): 3,
}  # fmt: skip


def write(graph: Graph, *, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """The file; its signature calls the graph's inputs and outputs by these names, and so do its tensors."""
    from ai_edge_litert import schema_py_generated as schema

    for tensors, names in ((graph.inputs, inputs), (graph.outputs, outputs)):
        for tensor, name in zip(tensors, names, strict=True):
            tensor.name = name
    model = schema.ModelT()
    model.version = 3
    model.description = DESCRIPTION
    model.buffers = [schema.BufferT()]
    model.operatorCodes = []
    subgraph = schema.SubGraphT()
    subgraph.name = b"main"
    index = _tensors(graph, model, subgraph, schema)
    subgraph.inputs, subgraph.outputs = ([index[t] for t in tensors] for tensors in (graph.inputs, graph.outputs))
    codes: dict[tuple[str, int], int] = {}
    subgraph.operators = [_operator(op, index, codes, schema) for op in graph.operators]
    model.operatorCodes = [_code(kind, version, schema) for kind, version in codes]
    model.subgraphs = [subgraph]
    model.signatureDefs = [_signature(graph, index, inputs, outputs, schema)]
    return pack(model)


def _tensors(graph: Graph, model: Any, subgraph: Any, schema: Any) -> dict[Tensor, int]:
    """Put tensors and buffers into the model; equal constants share a buffer."""
    import numpy as np

    index: dict[Tensor, int] = {}
    names: dict[str, int] = {}
    subgraph.tensors = []
    for tensor in graph.tensors():
        record = schema.TensorT()
        count = names[tensor.name] = names.get(tensor.name, 0) + 1
        record.name = (tensor.name if count == 1 else f"{tensor.name}#{count}").encode()
        record.type = getattr(schema.TensorType, tensor.dtype.upper())
        record.shape = [size // BATCH if size % BATCH == 0 else size for size in tensor.shape]
        record.shapeSignature = [-1 if size % BATCH == 0 else size for size in tensor.shape]
        record.hasRank = True
        record.buffer = 0
        if tensor.data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(tensor.data.tobytes(), np.uint8)
            record.buffer = len(model.buffers)
            model.buffers.append(buffer)
        if tensor.scales is not None:
            record.quantization = schema.QuantizationParametersT()
            record.quantization.scale = np.asarray(tensor.scales.scale, np.float32).reshape(-1)
            record.quantization.zeroPoint = np.asarray(tensor.scales.zero_point, np.int64).reshape(-1)
            record.quantization.quantizedDimension = tensor.scales.axis
        index[tensor] = len(subgraph.tensors)
        subgraph.tensors.append(record)
    return index


def _operator(operator: Operator, index: dict[Tensor, int], codes: dict[tuple[str, int], int], schema: Any) -> Any:
    record = schema.OperatorT()
    record.opcodeIndex = codes.setdefault((operator.kind, _version(operator)), len(codes))
    record.inputs = [-1 if tensor is None else index[tensor] for tensor in operator.inputs]
    record.outputs = [index[tensor] for tensor in operator.outputs]
    name = OPTIONS[operator.kind]
    if name is None:
        return record
    record.builtinOptionsType = getattr(schema.BuiltinOptions, name)
    record.builtinOptions = getattr(schema, f"{name}T")()
    for option, value in operator.options.items():
        _set(record.builtinOptions, option, value, schema)
    return record


def _set(options: Any, name: str, value: Any, schema: Any) -> None:
    if name == "padding":
        options.padding = getattr(schema.Padding, value)
    elif name == "activation":
        options.fusedActivationFunction = getattr(schema.ActivationFunctionType, value)
    else:
        field = re.sub(r"_(\w)", lambda match: match[1].upper(), name)
        if not hasattr(options, field):
            raise AttributeError(f"{type(options).__name__} has no field {field}")
        setattr(options, field, value)


def _version(operator: Operator) -> int:
    """That of the first input that is no index or shape, or of the output for QUANTIZE."""
    kind = operator.kind
    tensors = operator.outputs if kind == "QUANTIZE" else [t for t in operator.inputs if t is not None]
    dtype = next((tensor.dtype for tensor in tensors if tensor.dtype != "int32"), "int32")
    if kind == "QUANTIZE" and operator.inputs[0] is not None and operator.inputs[0].dtype == "float32":
        return 1
    if kind == "BROADCAST_TO":
        return 2
    return VERSIONS.get((kind, dtype), 1)


def _code(kind: str, version: int, schema: Any) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, kind)
    # Readers from before 2020 know only this field, a byte; later operators have 127 there.
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version = version
    return code


def _signature(
    graph: Graph, index: dict[Tensor, int], inputs: Sequence[str], outputs: Sequence[str], schema: Any
) -> Any:
    def maps(tensors: Sequence[Tensor], names: Sequence[str]) -> list[Any]:
        entries = []
        for tensor, name in zip(tensors, names, strict=True):
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = name.encode(), index[tensor]
            entries.append(entry)
        return entries

    signature = schema.SignatureDefT()
    signature.signatureKey = SIGNATURE.encode()
    signature.inputs, signature.outputs = maps(graph.inputs, inputs), maps(graph.outputs, outputs)
    signature.subgraphIndex = 0
    return signature
