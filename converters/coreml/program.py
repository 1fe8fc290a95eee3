"""An ML Program as plain values: its inputs and outputs, its operators in order, its constants."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from ...models.errors import BadArtifact
from . import package
from .package import AGAIN, Package

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLOATS: Final = ("float16", "float32", "float64")


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorType:
    """A MIL dtype in lower case, and a shape whose None is a free dimension."""

    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """A value in the file: a NumPy array, sub-byte ones widened, or strings; `stored_bytes` is what it takes there."""

    type: TensorType
    value: NDArray[Any] | str | tuple[str, ...]
    stored_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One MIL operator: each input is the names of its values (several for a variadic one), outputs have a type.

    `name` is the operator's own; an output without a tensor's type (a dictionary, a list) has None.
    """

    kind: str
    name: str
    inputs: Mapping[str, tuple[str, ...]]
    outputs: Mapping[str, TensorType | None]
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What an operator of control flow holds; it also sees the values around it."""

    inputs: Mapping[str, TensorType | None]
    operations: tuple[Operation, ...]
    results: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """An input or output as the model's description has it; `variable` is its name in the program.

    An image has `color` RGB, BGR or GRAYSCALE and the shape (1, channels, height, width); None in a shape is free.
    """

    name: str
    kind: Literal["tensor", "image", "string", "dictionary"]
    shape: tuple[int | None, ...]
    dtype: str
    color: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What `load` gives. `constants` are also those in blocks, `properties` the user-defined metadata."""

    path: Path
    specification_version: int
    opset: str
    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    states: Mapping[str, TensorType]
    constants: Mapping[str, Constant]
    operations: tuple[Operation, ...]
    results: tuple[str, ...]
    probabilities: str
    properties: Mapping[str, str]


def flattened(operations: Iterable[Operation]) -> Iterator[Operation]:
    """Every operator in the order of a run: those in blocks stand before the one that holds them."""
    for operation in operations:
        for block in operation.blocks:
            yield from flattened(block.operations)
        yield operation


def load(path: Path) -> Program:
    """The program in a saved `.mlpackage`; raises `BadArtifact` with the file and what is wrong with it."""
    opened = package.read(path)
    model = opened.model
    functions = model.mlProgram.functions
    name = model.description.defaultFunctionName or "main"
    if name not in functions:
        raise BadArtifact(f"{path} has no function {name}", AGAIN)
    function = functions[name]
    if function.opset not in function.block_specializations:
        raise BadArtifact(f"{path}: function {name} has no block for its opset {function.opset or '(none)'}", AGAIN)
    block = function.block_specializations[function.opset]
    constants: dict[str, Constant] = {}
    operations = tuple(_operations(opened, block, constants))
    taken = {given.name: _tensor_type(given.type) for given in function.inputs}
    return Program(
        path=path,
        specification_version=model.specificationVersion,
        opset=function.opset,
        inputs=tuple(_feature(feature, taken.get(feature.name)) for feature in model.description.input),
        outputs=tuple(_feature(feature, None) for feature in model.description.output),
        states={
            given.name: kind for given in function.inputs if (kind := _tensor_type(given.type.stateType.wrappedType))
        },
        constants=constants,
        operations=operations,
        results=tuple(block.outputs),
        probabilities=model.description.predictedProbabilitiesName,
        properties=dict(model.description.metadata.userDefined),
    )


def _operations(opened: Package, block: Any, constants: dict[str, Constant]) -> Iterator[Operation]:
    """The operators but `const`; values that stand within them become constants with names of their own."""
    for proto in block.operations:
        if proto.type == "const":
            (output,) = proto.outputs
            if output.name in constants:
                # Those of all blocks lie in one table, where the later would stand for both.
                raise BadArtifact(f"{opened.path} has two constants {output.name}", AGAIN)
            constants[output.name] = _constant(opened, proto.attributes["val"])
            continue
        own = proto.attributes["name"].immediateValue.tensor.strings.values if "name" in proto.attributes else ()
        # To write a state gives nothing.
        first = next((output.name for output in proto.outputs), "".join(own))
        inputs = {
            key: tuple(_bound(opened, binding, f"{first}.{key}.{i}", constants) for i, binding in enumerate(arguments))
            for key, arguments in ((key, argument.arguments) for key, argument in proto.inputs.items())
        }
        # The compressed constants of iOS 16 have attributes where later ones have inputs.
        for key, value in proto.attributes.items():
            if key != "name":
                constants[f"{first}.{key}"] = _constant(opened, value)
                inputs[key] = (f"{first}.{key}",)
        yield Operation(
            kind=proto.type,
            name=own[0] if own else first,
            inputs=inputs,
            outputs={output.name: _tensor_type(output.type) for output in proto.outputs},
            blocks=tuple(_block(opened, block, constants) for block in proto.blocks),
        )


def _block(opened: Package, proto: Any, constants: dict[str, Constant]) -> Block:
    return Block(
        inputs={given.name: _tensor_type(given.type) for given in proto.inputs},
        operations=tuple(_operations(opened, proto, constants)),
        results=tuple(proto.outputs),
    )


def _bound(opened: Package, binding: Any, name: str, constants: dict[str, Constant]) -> str:
    if binding.WhichOneof("binding") == "name":
        return str(binding.name)
    constants[name] = _constant(opened, binding.value)
    return name


def _constant(opened: Package, value: Any) -> Constant:
    import numpy as np

    kind = _tensor_type(value.type)
    if kind is None:
        return Constant(type=TensorType(dtype="list", shape=()), value=_strings(opened, value), stored_bytes=0)
    shape = tuple(size or 0 for size in kind.shape)
    count = math.prod(shape)
    if value.WhichOneof("value") == "blobFileValue":
        file = value.blobFileValue
        array = opened.blob(file.fileName, file.offset, dtype=kind.dtype, count=count)
    elif kind.dtype == "string":
        texts = tuple(value.immediateValue.tensor.strings.values)
        return Constant(type=kind, value=texts if shape else texts[0], stored_bytes=sum(map(len, texts)))
    else:
        tensor = value.immediateValue.tensor
        held = getattr(tensor, str(tensor.WhichOneof("value"))).values
        # Where MIL's protobuf has no field of a dtype, its bytes stand there.
        raw = isinstance(held, bytes)
        array = package.unpacked(np.frombuffer(held, np.uint8), dtype=kind.dtype, count=count) if raw else held
    array = np.asarray(array, dtype=_numpy(kind.dtype))
    if array.size != count:
        raise BadArtifact(f"{opened.path}: a constant of shape {shape} holds {array.size} values", AGAIN)
    stored = -(-count * package.bits(kind.dtype) // 8)
    return Constant(type=kind, value=array.reshape(shape), stored_bytes=stored)


def _strings(opened: Package, value: Any) -> tuple[str, ...]:
    """A list of strings, such as the classes of a classifier."""
    parts = [_constant(opened, part).value for part in value.immediateValue.list.values]
    return tuple(str(part) for part in parts)


def _numpy(dtype: str) -> str:
    if dtype == "bool" or package.bits(dtype) >= 8:
        return dtype
    return "uint8" if dtype.startswith("u") else "int8"


def _tensor_type(proto: Any) -> TensorType | None:
    if proto.WhichOneof("type") != "tensorType":
        return None
    tensor = proto.tensorType
    dtype = tensor.DESCRIPTOR.fields_by_name["dataType"].enum_type.values_by_number[tensor.dataType].name.lower()
    shape = tuple(
        int(side.constant.size) if side.WhichOneof("dimension") == "constant" else None for side in tensor.dimensions
    )
    return TensorType(dtype=dtype, shape=shape)


def _feature(proto: Any, taken: TensorType | None) -> Feature:
    """`taken` is the type of the program's own input, which has free dimensions where the description has ranges."""
    kind = proto.type.WhichOneof("Type")
    if kind == "imageType":
        image = proto.type.imageType
        color = image.DESCRIPTOR.fields_by_name["colorSpace"].enum_type.values_by_number[image.colorSpace].name
        channels = 1 if color.startswith("GRAYSCALE") else 3
        shape: tuple[int | None, ...] = (1, channels, int(image.height), int(image.width))
        return Feature(name=proto.name, kind="image", shape=shape, dtype="uint8", color=color)
    if kind == "multiArrayType":
        array = proto.type.multiArrayType
        names = array.DESCRIPTOR.fields_by_name["dataType"].enum_type.values_by_number
        dtype = {"double": "float64"}.get(names[array.dataType].name.lower(), names[array.dataType].name.lower())
        shape = taken.shape if taken else tuple(int(size) for size in array.shape)
        return Feature(name=proto.name, kind="tensor", shape=shape, dtype=dtype)
    if kind == "dictionaryType":
        return Feature(name=proto.name, kind="dictionary", shape=(), dtype="float32")
    if kind in ("stringType", "int64Type"):
        return Feature(name=proto.name, kind="string", shape=(), dtype="string")
    raise BadArtifact(
        f"{proto.name} is a {kind}, which no evit-edge program has", "convert a model of tensors or images"
    )
