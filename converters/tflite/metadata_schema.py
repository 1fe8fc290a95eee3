"""The tables of TFLite Metadata that are written here, and their way into bytes.

The facts are those of the public `metadata_schema.fbs` (identifier M001, schema version 1.5.0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

IDENTIFIER: Final = b"M001"

# The oldest reader that understands these tables: all of them are from the schema's first version.
MIN_PARSER_VERSION: Final = "1.0.0"

# A field's slot is its place in the schema's table; a union has two, the first for which of its tables follows.
FIELDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "ModelMetadata": (
            "name", "description", "version", "subgraph_metadata", "author", "license", "associated_files",
            "min_parser_version",
        ),
        "SubGraphMetadata": ("name", "description", "input_tensor_metadata", "output_tensor_metadata"),
        "TensorMetadata": (
            "name", "description", "dimension_names", "content", "process_units", "stats", "associated_files",
        ),
        "Content": ("content_properties_type", "content_properties", "range"),
        "ImageProperties": ("color_space", "default_size"),
        "ImageSize": ("width", "height"),
        "ProcessUnit": ("options_type", "options"),
        "NormalizationOptions": ("mean", "std"),
        "Stats": ("max", "min"),
        "AssociatedFile": ("name", "description", "type", "locale", "version"),
    }
)  # fmt: skip


class Byte(int):
    """A number of one byte: an enumeration's, or which table a union holds."""


class UInt(int):
    """A number of four bytes."""


RGB: Final = Byte(1)  # ColorSpaceType
TENSOR_AXIS_LABELS: Final = Byte(2)  # AssociatedFileType
IMAGE_PROPERTIES: Final = Byte(2)  # ContentProperties
NORMALIZATION_OPTIONS: Final = Byte(1)  # ProcessUnitOptions


@dataclass(frozen=True, slots=True)
class Table:
    """One of `FIELDS`; a value is a str, a Byte, a UInt, a table, a sequence of tables or of floats, or None."""

    kind: str
    values: Mapping[str, Any]


def table(kind: str, **values: Any) -> Table:
    """A table without the values that are None; raises `KeyError` for a field that it does not have."""
    if strangers := set(values) - set(FIELDS[kind]):
        raise KeyError(f"{kind} has no {', '.join(sorted(strangers))}")
    return Table(kind, {name: value for name, value in values.items() if value is not None})


def pack(root: Table) -> bytes:
    """The FlatBuffer of `root`, a `ModelMetadata`."""
    from flatbuffers import Builder

    builder = Builder(1024)
    builder.Finish(_table(builder, root), IDENTIFIER)
    return bytes(builder.Output())


def _table(builder: Any, value: Table) -> int:
    # A FlatBuffer grows backwards: whatever a table refers to is written before it.
    slots = {FIELDS[value.kind].index(name): field for name, field in value.values.items()}
    written = {slot: _reference(builder, field) for slot, field in slots.items() if not isinstance(field, int)}
    builder.StartObject(len(FIELDS[value.kind]))
    for slot, field in slots.items():
        if slot in written:
            builder.PrependUOffsetTRelativeSlot(slot, written[slot], 0)
        elif isinstance(field, Byte):
            builder.PrependUint8Slot(slot, field, 0)
        else:
            builder.PrependUint32Slot(slot, field, 0)
    return int(builder.EndObject())


def _reference(builder: Any, value: str | Table | Sequence[Table] | Sequence[float]) -> int:
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, Table):
        return _table(builder, value)
    if isinstance(value[0], Table):
        tables = [_table(builder, item) for item in value if isinstance(item, Table)]
        return _vector(builder, tables, builder.PrependUOffsetTRelative)
    return _vector(builder, value, builder.PrependFloat32)


def _vector(builder: Any, items: Sequence[Any], prepend: Callable[[Any], None]) -> int:
    builder.StartVector(4, len(items), 4)
    for item in reversed(items):
        prepend(item)
    return int(builder.EndVector())
