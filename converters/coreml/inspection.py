"""What an ML Program really holds: its operators and layers, with the dtypes that the saved file has."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..artifact import TensorRecord
from ..inspection import Inspection, Layer, images_in
from .metadata import FLOAT32
from .program import Feature, Operation, Program, TensorType, flattened, load

# The operators that multiply, and which two of their inputs.
FACTORS: Final[Mapping[str, tuple[str, str]]] = {
    **dict.fromkeys(("conv", "conv_transpose", "linear"), ("x", "weight")),
    "matmul": ("x", "y"),
}
# What stands for the stored values of a compressed constant, in the versions of iOS 16 and 18.
STORED: Final = ("quantized_data", "data", "indices", "nonzero_data", "source_val")
NO_TENSOR: Final = TensorType(dtype="", shape=())
PALETTES: Final = ("constexpr_lut_to_dense", "constexpr_lut_to_sparse")


def inspect(path: Path) -> Inspection:
    """What is found in a package, whoever wrote it; raises `BadArtifact`."""
    program = load(path)
    inputs, outputs = (tuple(map(_record, features)) for features in (program.inputs, program.outputs))
    return Inspection(
        operators=Counter(operation.kind for operation in flattened(program.operations)),
        layers=tuple(layers(program, images=images_in(inputs, outputs))),
        inputs=inputs,
        outputs=outputs,
        excepted=frozenset(program.properties.get(FLOAT32, "").split()),
    )


def _record(feature: Feature) -> TensorRecord:
    if feature.kind == "image":
        batch, channels, height, width = feature.shape
        return TensorRecord(name=feature.name, shape=(batch, height, width, channels), dtype="uint8", layout="nhwc")
    dtype = feature.dtype if feature.kind == "tensor" else feature.kind
    return TensorRecord(name=feature.name, shape=feature.shape, dtype=dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weights:
    """A constant factor as it is stored: elements, dtype, bytes."""

    count: int
    dtype: str
    stored_bytes: int


class _Values:
    """Where the values of a program come from."""

    def __init__(self, program: Program) -> None:
        self._program = program
        operations = tuple(flattened(program.operations))
        self._makers = {name: operation for operation in operations for name in operation.outputs}
        self._inputs = {
            feature.name: TensorType(dtype=feature.dtype, shape=feature.shape) for feature in program.inputs
        }
        blocks = (block for operation in operations for block in operation.blocks)
        self._inputs.update((name, kind or NO_TENSOR) for block in blocks for name, kind in block.inputs.items())

    def dtype(self, name: str) -> str:
        """The dtype of a value."""
        return self._type(name).dtype

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a value; a free dimension counts as 1."""
        return tuple(side or 1 for side in self._type(name).shape)

    def _type(self, name: str) -> TensorType:
        if name in self._program.constants:
            return self._program.constants[name].type
        if name in self._makers:
            return self._makers[name].outputs[name] or NO_TENSOR
        return self._inputs[name]

    def weights(self, name: str) -> _Weights | None:
        """What is stored of a constant; None for what is computed from the inputs."""
        constant = self._program.constants.get(name)
        if constant is not None:
            return _Weights(
                count=math.prod(self.shape(name)),
                dtype=constant.type.dtype,
                stored_bytes=constant.stored_bytes,
            )
        maker = self._makers.get(name)
        if maker is None or not maker.kind.startswith("constexpr_"):
            return None
        names = [name for key, names in maker.inputs.items() if key != "shape" for name in names]
        return _Weights(
            count=math.prod(self.shape(name)),
            dtype=self._stored_dtype(maker),
            stored_bytes=sum(part.stored_bytes for part in map(self.weights, names) if part),
        )

    def _stored_dtype(self, maker: Operation) -> str:
        """`lut6` and the like for a palette, else the dtype of the stored values, `sparse` if zeros are left out."""
        if maker.kind in PALETTES:
            table = self.shape(maker.inputs["lut"][0])
            # Of iOS 18 on the palette has an axis more for its groups, and one for vectors.
            entries = table[-2] if len(table) > 1 else table[0]
            found = f"lut{round(math.log2(entries))}"
        else:
            (stored,) = next(maker.inputs[key] for key in STORED if key in maker.inputs)
            inner = self._makers.get(stored)
            found = self._stored_dtype(inner) if inner is not None else self.dtype(stored)
        return f"sparse {found}" if maker.kind == "constexpr_sparse_to_dense" and "sparse" not in found else found

    def arithmetic(self, operation: Operation) -> str:
        """The dtype that an operator computes in: that of the weights' integers, if both factors come as some.

        Activations that are never negative are uint8 beside others in int8, and int8 weights meet both.
        """
        factors = [self._integers(operation.inputs[key][0]) for key in FACTORS[operation.kind]]
        return factors[-1] if all(factors) else self.dtype(next(iter(operation.outputs)))

    def _integers(self, name: str) -> str:
        """The dtype of the integers behind a value, empty for a value that has none."""
        maker = self._makers.get(name)
        if maker is not None and maker.kind == "dequantize":
            return self.dtype(maker.inputs["input"][0])
        weights = self.weights(name)
        return weights.dtype if weights and weights.dtype in ("int8", "uint8", "int4", "uint4") else ""


def layers(program: Program, *, images: int = 1) -> Iterator[Layer]:
    """The operators that multiply; of a program for a batch, `images` is what their MACs are divided by.

    One in a loop counts as run once, since the file does not say how often it will be.
    """
    values, seen = _Values(program), set[str]()
    for operation in flattened(program.operations):
        if operation.kind not in FACTORS:
            continue
        factors = FACTORS[operation.kind]
        constant = next((key for key in reversed(factors) if values.weights(operation.inputs[key][0])), None)
        weights = values.weights(operation.inputs[constant][0]) if constant else None
        name = operation.inputs[constant][0] if constant else ""
        yield Layer(
            name=operation.name,
            kind=operation.kind,
            weights=weights.count if weights else 0,
            weight_dtype=weights.dtype if weights else "",
            weight_bytes=weights.stored_bytes if weights and name not in seen else 0,
            arithmetic=values.arithmetic(operation),
            macs=_macs(operation, program, values) // images,
        )
        seen.add(name)


def _macs(operation: Operation, program: Program, values: _Values) -> int:
    x, y = (values.shape(operation.inputs[key][0]) for key in FACTORS[operation.kind])
    given = math.prod(values.shape(next(iter(operation.outputs))))
    if operation.kind == "matmul":
        turned = _flag(program, operation, "transpose_x")
        return given * (x[-2] if turned and len(x) > 1 else x[-1])
    if operation.kind == "conv_transpose":
        # Each value of the input meets the kernels of all its outputs.
        return math.prod(x) * math.prod(y[1:])
    # (outputs, inputs of a group, kernel…), or (outputs, inputs).
    return given * math.prod(y[1:])


def _flag(program: Program, operation: Operation, key: str) -> bool:
    names: Sequence[str] = operation.inputs.get(key, ())
    return bool(names and program.constants[names[0]].value)
