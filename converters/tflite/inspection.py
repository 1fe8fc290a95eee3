"""What a TFLite file really holds: its operators, and the precision of its arithmetic, from the file alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from ...models.errors import BadArtifact
from ..artifact import Quantization, TensorRecord
from .flatbuffer import unpack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LAYERS: Final = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
# What is left may be in another precision: a classifier, a stem's few weights.
NEARLY_ALL: Final = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """An operator with constant weights: how many, their dtype, and that of what it gives; MACs at batch 1."""

    kind: str
    weights: int
    weight_dtype: str
    output_dtype: str
    macs: int


def histogram(path: Path) -> Counter[str]:
    """How often each operator stands in the file; raises `BadArtifact`."""
    model = _model(path)
    names = _names("BuiltinOperator")
    kinds = [names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes]
    return Counter(kinds[operator.opcodeIndex] for operator in model.subgraphs[0].operators)


def precision_of(path: Path) -> str:
    """`fp32`, `fp16`, `w8`, `int8` or `w8a16` if nearly all of the file is; else its shares, or `no weights`."""
    layers = list(_layers(_model(path)))
    weights = Counter[str]()
    activations = Counter[str]()
    for layer in layers:
        weights[layer.weight_dtype] += layer.weights
        activations[layer.output_dtype] += layer.macs
    if not weights:
        return "no weights"
    held, computed = (_dominant(counter) for counter in (weights, activations))
    names: dict[tuple[str | None, str | None], str] = {
        ("float32", "float32"): "fp32",
        ("float16", "float32"): "fp16",
        ("int8", "float32"): "w8",
        ("int8", "int8"): "int8",
        ("int8", "int16"): "w8a16",
    }
    return names.get((held, computed), f"weights {_shares(weights)}, arithmetic {_shares(activations)}")


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


def _record(name: str, tensor: Any, *, layout: Any) -> TensorRecord:
    signature = tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape
    shape = tuple(None if int(size) < 0 else int(size) for size in signature)
    quantized = tensor.quantization is not None and tensor.quantization.scale is not None
    quantization = None
    if quantized and len(tensor.quantization.scale):
        quantization = Quantization(
            scale=float(tensor.quantization.scale[0]), zero_point=int(tensor.quantization.zeroPoint[0])
        )
    return TensorRecord(
        name=name,
        shape=shape,
        dtype=_dtype(tensor),
        layout=layout if len(shape) == 4 else "nchw",
        quantization=quantization,
    )


def _layers(model: Any) -> Iterator[Layer]:
    graph, names = model.subgraphs[0], _names("BuiltinOperator")
    kinds = [names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes]
    behind = {op.outputs[0]: op.inputs[0] for op in graph.operators if kinds[op.opcodeIndex] == "DEQUANTIZE"}
    for operator in graph.operators:
        kind = kinds[operator.opcodeIndex]
        if kind not in LAYERS:
            continue
        # A weight that is stored small has a DEQUANTIZE between it and its layer.
        index = behind.get(operator.inputs[1], operator.inputs[1])
        weight, output = graph.tensors[index], graph.tensors[operator.outputs[0]]
        if weight.buffer == 0 or model.buffers[weight.buffer].data is None:
            continue
        count = math.prod(int(size) for size in weight.shape)
        positions = math.prod(int(size) for size in output.shape[:-1])
        yield Layer(
            kind=kind, weights=count, weight_dtype=_dtype(weight), output_dtype=_dtype(output), macs=count * positions
        )


def _dominant(counter: Counter[str]) -> str | None:
    (name, count), *_ = counter.most_common(1)
    return name if count >= NEARLY_ALL * counter.total() else None


def _shares(counter: Counter[str]) -> str:
    return " + ".join(f"{count / counter.total():.1%} {name}" for name, count in counter.most_common())


def _dtype(tensor: Any) -> str:
    return _names("TensorType")[tensor.type].lower()


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
