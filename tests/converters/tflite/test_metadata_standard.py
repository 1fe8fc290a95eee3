"""The metadata as others read it: at the places of the public schema, and by the standard's own classes."""

from __future__ import annotations

import importlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from flatbuffers.table import Table

from evit_edge.converters.artifact import TensorRecord
from evit_edge.converters.tflite.flatbuffer import pack, unpack
from evit_edge.converters.tflite.metadata import CARD, ENTRY, LABELS, read
from evit_edge.converters.tflite.metadata_schema import FIELDS

from .linear_file import OUTPUT, SPEC, describe

STANDARD = (
    "tensorflow_lite_support.metadata.metadata_schema_py_generated",  # of tflite-support
    "mediapipe.tasks.metadata.metadata_schema_py_generated",
)


def entry_of(path: Path) -> bytes:
    """The standard's FlatBuffer in the file."""
    model = unpack(path.read_bytes())
    (entry,) = [entry for entry in model.metadata if entry.name == ENTRY.encode()]
    return bytes(model.buffers[entry.buffer].data)


def root_of(path: Path) -> Table:
    data = entry_of(path)
    return Table(data, struct.unpack_from("<I", data)[0])


def child(parent: Table, field: int) -> Table:
    return Table(parent.Bytes, parent.Indirect(parent.Pos + parent.Offset(field)))


def item(parent: Table, field: int) -> Table:
    return Table(parent.Bytes, parent.Indirect(parent.Vector(parent.Offset(field))))


def text(parent: Table, field: int) -> str:
    return str(parent.String(parent.Pos + parent.Offset(field)).decode())


def floats(parent: Table, field: int) -> tuple[float, ...]:
    at, count = parent.Vector(parent.Offset(field)), parent.VectorLen(parent.Offset(field))
    return struct.unpack_from(f"<{count}f", parent.Bytes, at)


def byte(parent: Table, field: int) -> int:
    return int(parent.Bytes[parent.Pos + parent.Offset(field)])


def test_the_standard_finds_every_fact_where_it_looks(described: Path) -> None:
    """The numbers are the vtable offsets in flatc's code for the public schema."""
    assert entry_of(described)[4:8] == b"M001"
    model = root_of(described)
    assert (text(model, 4), text(model, 14), text(model, 18)) == ("linear", "Apache-2.0", "1.0.0")
    assert text(item(model, 16), 4) == CARD
    graph = item(model, 10)
    image, scores = item(graph, 8), item(graph, 10)
    assert (text(image, 4), text(scores, 4)) == ("image", "logits")
    content = child(image, 10)
    assert (byte(content, 4), byte(child(content, 6), 4)) == (2, 1)
    unit = item(image, 12)
    assert byte(unit, 4) == 1
    assert floats(child(unit, 6), 4) == pytest.approx((25.5, 51, 76.5))
    assert floats(child(unit, 6), 6) == pytest.approx((127.5, 63.75, 31.875))
    assert floats(child(image, 14), 4) == pytest.approx((1.8, 3.2, 5.6))
    assert floats(child(image, 14), 6) == pytest.approx((-0.2, -0.8, -2.4))
    assert (text(item(scores, 16), 4), byte(item(scores, 16), 8)) == (LABELS, 2)


def standard_reader() -> Any:
    for name in STANDARD:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    pytest.skip("neither tflite-support nor mediapipe is installed")


def test_the_standards_own_classes_read_it(described: Path) -> None:
    standard = standard_reader()
    data = entry_of(described)
    assert standard.ModelMetadata.ModelMetadataBufferHasIdentifier(data, 0)
    model = standard.ModelMetadataT.InitFromObj(standard.ModelMetadata.GetRootAs(data, 0))
    assert (model.name, model.license, model.version) == (b"linear", b"Apache-2.0", b"1" * 12)
    assert [file.name for file in model.associatedFiles] == [CARD.encode()]
    (graph,) = model.subgraphMetadata
    (image,), (scores,) = graph.inputTensorMetadata, graph.outputTensorMetadata
    assert image.content.contentProperties.colorSpace == standard.ColorSpaceType.RGB
    assert image.content.contentProperties.defaultSize.width == 8
    (unit,) = image.processUnits
    assert isinstance(unit.options, standard.NormalizationOptionsT)
    assert list(unit.options.mean) == pytest.approx([25.5, 51, 76.5])
    assert list(image.stats.max) == pytest.approx([1.8, 3.2, 5.6])
    (labels,) = scores.associatedFiles
    assert (labels.name, labels.type) == (LABELS.encode(), standard.AssociatedFileType.TENSOR_AXIS_LABELS)


def test_the_slots_are_those_of_the_standard() -> None:
    standard = standard_reader()
    for kind, fields in FIELDS.items():
        known = [name for name in vars(getattr(standard, f"{kind}T")()) if not name.startswith("_")]
        assert [name.replace("_", "").lower() for name in fields] == [name.lower() for name in known][: len(fields)]


def test_normalising_as_the_standard_says_gives_what_the_model_expects() -> None:
    pixels = np.arange(192, dtype=np.uint8).reshape(1, 8, 8, 3)
    mean, std = (np.float32(values) * 255 for values in (SPEC.preprocess.mean, SPEC.preprocess.std))  # type: ignore[arg-type]
    theirs = ((pixels - mean) / std).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(theirs, SPEC.preprocess.normalise(pixels), atol=1e-5)


def test_tensors_are_described_in_the_order_of_the_file(bare: Path) -> None:
    model = unpack(bare.read_bytes())
    row = 2
    model.subgraphs[0].outputs = [row, 4]
    extra = schema.TensorMapT()
    extra.name, extra.tensorIndex = b"features", row
    model.signatureDefs[0].outputs.append(extra)
    bare.write_bytes(pack(model))
    features = TensorRecord(name="features", shape=(1, 192), dtype="float32")
    graph = item(root_of(describe(bare, outputs=[OUTPUT, features])), 10)
    assert text(item(graph, 10), 4) == "features"
    assert [record.name for record in read(bare).outputs] == ["logits", "features"]
