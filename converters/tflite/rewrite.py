"""What TensorFlow's converter writes, put right: the names that the user knows, and a matmul that no runtime takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...models.errors import ConversionFailed
from .flatbuffer import SIGNATURE, pack, unpack


def rewrite(flatbuffer: bytes, *, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """The same model whose only signature, and the tensors that it takes and gives, have these names, in this order.

    The names given stand for those in the signature in alphabetical order. Raises `ConversionFailed` where their
    numbers differ.
    """
    model = unpack(flatbuffer)
    subgraph = model.subgraphs[0]
    (signature,) = model.signatureDefs
    signature.signatureKey = SIGNATURE.encode()
    subgraph.inputs = _rename(subgraph, signature.inputs, inputs)
    subgraph.outputs = _rename(subgraph, signature.outputs, outputs)
    _free_matmuls(model)
    return pack(model)


def _rename(subgraph: Any, entries: list[Any], names: Sequence[str]) -> list[int]:
    """Renames the entries of a signature, and their tensors; returns the indices of those."""
    if len(entries) != len(names):
        raise ConversionFailed(f"made a file that has {len(entries)} tensors for {', '.join(names)}")
    entries.sort(key=lambda entry: entry.name)
    chosen = [entry.tensorIndex for entry in entries]
    encoded = [name.encode() for name in names]
    for index, tensor in enumerate(subgraph.tensors):
        # Two tensors of one name, and tools that look them up by name refuse the file.
        if index not in chosen and tensor.name in encoded:
            tensor.name += b"/inner"
    for entry, name in zip(entries, encoded, strict=True):
        entry.name = subgraph.tensors[entry.tensorIndex].name = name
    return chosen


def _free_matmuls(model: Any) -> None:
    """TensorFlow writes x·yᵀ as FULLY_CONNECTED; with y of int16 only BATCH_MATMUL can be executed."""
    from ai_edge_litert import schema_py_generated as schema

    dense = schema.BuiltinOperator.FULLY_CONNECTED
    for subgraph in model.subgraphs:
        for operator in subgraph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            if code.builtinCode == dense and _is_free_matmul(operator, subgraph.tensors):
                operator.opcodeIndex = _batch_matmul(model)
                operator.builtinOptionsType = schema.BuiltinOptions.BatchMatMulOptions
                operator.builtinOptions = schema.BatchMatMulOptionsT(adjY=True)
                operator.inputs = operator.inputs[:2]


def _is_free_matmul(operator: Any, tensors: list[Any]) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    left, right = (tensors[index] for index in operator.inputs[:2])
    return bool(
        right.type == schema.TensorType.INT16
        and all(index < 0 for index in operator.inputs[2:])
        and operator.builtinOptions.fusedActivationFunction == schema.ActivationFunctionType.NONE
        and len(left.shape) == len(tensors[operator.outputs[0]].shape)
    )


def _batch_matmul(model: Any) -> int:
    """The index of its code among those of the model, which has it afterwards."""
    from ai_edge_litert import schema_py_generated as schema

    wanted = schema.BuiltinOperator.BATCH_MATMUL
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == wanted:
            return index
    model.operatorCodes.append(schema.OperatorCodeT(deprecatedBuiltinCode=wanted, builtinCode=wanted, version=2))
    return len(model.operatorCodes) - 1
