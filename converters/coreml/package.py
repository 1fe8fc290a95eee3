"""A saved `.mlpackage`, read as a stranger reads it: its manifest, its specification, its file of weights.

The formats are those of coremltools 9: `Manifest.json` names the root item, that item is a serialized
`CoreML.Specification.Model`, and constants lie in `weights/weight.bin` in MIL's blob storage, version 2.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import struct
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ...models.errors import BadArtifact, MissingDependency

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STORAGE_VERSION: Final = 2
RECORD: Final = struct.Struct("<IIQQQ")
SENTINEL: Final = 0xDEADBEEF
# The number of a dtype in a record of the blob storage, by its name in MIL.
BLOB_DTYPES: Final = {
    1: "float16",
    2: "float32",
    3: "uint8",
    4: "int8",
    6: "int16",
    7: "uint16",
    8: "int4",
    9: "uint1",
    10: "uint2",
    11: "uint4",
    12: "uint3",
    13: "uint6",
    14: "int32",
    15: "uint32",
}
AGAIN: Final = "convert again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """The specification (a protobuf `Model`) and where its weights lie."""

    path: Path
    model: Any
    items: Path

    def blob(self, file_name: str, offset: int, *, dtype: str, count: int) -> NDArray[Any]:
        """`count` values of a MIL dtype from the record at `offset`, sub-byte ones as int8 or uint8; `BadArtifact`."""
        prefix = "@model_path/"
        path = (self.items / file_name.removeprefix(prefix)).resolve()
        if not file_name.startswith(prefix) or not path.is_relative_to(self.items.resolve()):
            raise BadArtifact(f"{self.path}: weights are said to lie in {file_name}, outside of the package", AGAIN)
        try:
            return _values(path, offset, dtype=dtype, count=count)
        except OSError as error:
            raise BadArtifact(f"{path} cannot be read: {error.strerror or error}", AGAIN) from error


def read(path: Path) -> Package:
    """Open a package; raises `BadArtifact` for one that is incomplete, `MissingDependency` without coremltools."""
    if not path.is_dir():
        raise BadArtifact(f"{path} is not an .mlpackage, which is a folder", AGAIN)
    data = path / "Data"
    try:
        manifest = json.loads((path / "Manifest.json").read_bytes())
        root = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
        specification = data / str(root)
        content = specification.read_bytes()
    except OSError as error:
        raise BadArtifact(f"{path} is incomplete: {error.filename}: {error.strerror}", AGAIN) from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadArtifact(f"{path / 'Manifest.json'} does not name the model", AGAIN) from error
    return Package(path=path, model=parsed(content, specification), items=specification.parent)


def parsed(content: bytes, path: Path) -> Any:
    """The protobuf `Model` in `content`, which came from `path`."""
    from google.protobuf.message import DecodeError

    try:
        model = _messages().Model.FromString(content)
    except DecodeError as error:
        raise BadArtifact(f"{path} is not a Core ML specification", AGAIN) from error
    if model.WhichOneof("Type") != "mlProgram":
        raise BadArtifact(f"{path} holds {model.WhichOneof('Type') or 'nothing'}, not an ML Program", AGAIN)
    return model


def _messages() -> Any:
    """coremltools' generated protobuf messages, without its other 2 s of imports where those are not there yet."""
    if "coremltools" in sys.modules:
        return importlib.import_module("coremltools.proto.Model_pb2")
    found = importlib.util.find_spec("coremltools")
    if found is None or not found.submodule_search_locations:
        raise MissingDependency("Core ML needs the package coremltools", "pip install coremltools")
    alias = "_evit_edge_coreml_proto"
    if alias not in sys.modules:
        folder = types.ModuleType(alias)
        folder.__path__ = [str(Path(found.submodule_search_locations[0]) / "proto")]
        sys.modules[alias] = folder
    return importlib.import_module(f"{alias}.Model_pb2")


def _values(path: Path, offset: int, *, dtype: str, count: int) -> NDArray[Any]:
    import numpy as np

    with path.open("rb") as file:
        _, version = struct.unpack("<II", _exactly(file, path, 0, 8))
        if version != STORAGE_VERSION:
            raise BadArtifact(f"{path} has storage version {version}, not {STORAGE_VERSION}", AGAIN)
        sentinel, kind, size, start, _ = RECORD.unpack(_exactly(file, path, offset, RECORD.size))
        if sentinel != SENTINEL or BLOB_DTYPES.get(kind) != dtype or size * 8 < count * bits(dtype):
            raise BadArtifact(f"{path} has no {count} values of {dtype} at byte {offset}", AGAIN)
        return unpacked(np.frombuffer(_exactly(file, path, start, size), np.uint8), dtype=dtype, count=count)


def _exactly(file: Any, path: Path, offset: int, size: int) -> bytes:
    # Asked first, since a damaged record may name more bytes than a file or this machine's memory can have.
    if offset + size > file.seek(0, os.SEEK_END):
        raise BadArtifact(f"{path} is cut short: {size} bytes are missing at byte {offset}", AGAIN)
    file.seek(offset)
    content: bytes = file.read(size)
    return content


def bits(dtype: str) -> int:
    """How many bits a MIL dtype has."""
    return 8 if dtype == "bool" else int(dtype.lstrip("abcdefghijklmnopqrstuvwxyz"))


def unpacked(content: NDArray[np.uint8], *, dtype: str, count: int) -> NDArray[Any]:
    """`count` values of a MIL dtype from bytes; those below a byte are packed from the lowest bit up."""
    import numpy as np

    width = bits(dtype)
    if width >= 8:
        return content.view(np.dtype(dtype))[:count]
    planes = np.unpackbits(content, bitorder="little")[: count * width].reshape(count, width)
    values = planes @ (1 << np.arange(width, dtype=np.uint8))
    if dtype.startswith("u"):
        return values.astype(np.uint8)
    return np.where(values >= 1 << (width - 1), values.astype(np.int16) - (1 << width), values).astype(np.int8)
