"""A saved package, copied and damaged: its specification and its weights as they lie on disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evit_edge.converters.coreml import package
from evit_edge.converters.coreml.package import RECORD

MODEL = Path("Data/com.apple.CoreML/model.mlmodel")
WEIGHTS = Path("Data/com.apple.CoreML/weights/weight.bin")


class Damaged:
    """A copy of a package; `model` is its specification, which `save` writes back."""

    def __init__(self, original: Path, folder: Path) -> None:
        self.path = folder / "damaged.mlpackage"
        shutil.copytree(original, self.path)
        self.model = package.read(self.path).model
        (self.block,) = self.model.mlProgram.functions["main"].block_specializations.values()

    def save(self) -> None:
        (self.path / MODEL).write_bytes(self.model.SerializeToString())

    def operations(self, kind: str) -> list[Any]:
        return [operation for operation in self.block.operations if operation.type == kind]

    def argument(self, operation: Any, key: str) -> Any:
        """The constant that an operator is given, for it alone."""
        if key in operation.attributes:
            return operation.attributes[key]
        (given,) = operation.inputs[key].arguments
        if given.WhichOneof("binding") == "name":
            (made,) = (op for op in self.operations("const") if op.outputs[0].name == given.name)
            given.value.CopyFrom(made.attributes["val"])
        return given.value

    def change(self, operation: Any, key: str, edit: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        """Put another array of the same shape in a constant's place, wherever it lies."""
        value = self.argument(operation, key)
        if value.WhichOneof("value") == "blobFileValue":
            self._change_stored(value, edit)
            return
        tensor = value.immediateValue.tensor
        field = tensor.WhichOneof("value")
        values, dtype = getattr(tensor, field).values, _dtype(value)
        if field == "bytes":
            tensor.bytes.values = edit(np.frombuffer(values, dtype)).astype(dtype).tobytes()
        else:
            values[:] = edit(np.array(list(values), dtype)).tolist()

    def _change_stored(self, value: Any, edit: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        file = self.path / WEIGHTS
        content = bytearray(file.read_bytes())
        _, _, size, start, _ = RECORD.unpack_from(content, value.blobFileValue.offset)
        dtype = _dtype(value)
        sides = [side.constant.size for side in value.type.tensorType.dimensions]
        before = np.frombuffer(content[start : start + size], dtype).reshape(sides)
        content[start : start + size] = edit(before).astype(dtype).tobytes()
        file.write_bytes(content)


def _dtype(value: Any) -> np.dtype[Any]:
    tensor = value.type.tensorType
    names = tensor.DESCRIPTOR.fields_by_name["dataType"].enum_type.values_by_number
    return np.dtype(names[tensor.dataType].name.lower())
