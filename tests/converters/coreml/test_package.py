"""A package as it lies on disk: every dtype below a byte, and each kind of damage in one line that names the file."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evit_edge.converters.coreml import package
from evit_edge.converters.coreml import program as programs
from evit_edge.models.errors import BadArtifact

from . import mil
from .calling import numbers, same

few = settings(max_examples=25, deadline=None)
WEIGHTS = Path("Data/com.apple.CoreML/weights/weight.bin")
MODEL = Path("Data/com.apple.CoreML/model.mlmodel")


@few
@given(st.sampled_from(["uint1", "uint2", "uint3", "uint4", "uint6", "int4", "uint8", "int8"]), st.data())
def test_values_of_every_width(dtype: str, data: st.DataObject) -> None:
    width = int(dtype.strip("uint"))
    least = -(2 ** (width - 1)) if dtype.startswith("int") else 0
    values = data.draw(st.lists(st.integers(least, least + 2**width - 1), max_size=20))
    content = bytearray(-(-len(values) * width // 8))
    for i, value in enumerate(values):
        for bit in range(width):
            if value & 1 << bit:
                at = i * width + bit
                content[at // 8] |= 1 << at % 8
    unpacked = package.unpacked(np.frombuffer(content, np.uint8), dtype=dtype, count=len(values))
    assert unpacked.dtype == ("int8" if dtype.startswith("int") else "uint8")
    assert unpacked.tolist() == values


@pytest.mark.parametrize("dtype", ["float16", "float32", "int16", "uint16", "int32", "uint32"])
def test_values_of_whole_bytes(dtype: str) -> None:
    values = np.arange(1, 6).astype(dtype)
    same(package.unpacked(np.frombuffer(values.tobytes(), np.uint8), dtype=dtype, count=4), values[:4])


@pytest.mark.parametrize(("dtype", "width"), [("bool", 8), ("uint3", 3), ("int4", 4), ("float16", 16), ("int64", 64)])
def test_width_of_a_dtype(dtype: str, width: int) -> None:
    assert package.bits(dtype) == width


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = numbers((6, 5))
    return mil.program(
        lambda mb, x: mb.linear(x=x, weight=weights),
        {"x": (1, 5)},
        "iOS16",
        "FLOAT32",
        tmp_path_factory.mktemp("saved"),
    )


@pytest.fixture
def path(original: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "copy.mlpackage"
    shutil.copytree(original, copy)
    return copy


def refused(path: Path, message: str) -> None:
    """Loading fails with one line that begins with a file of the package and has the message."""
    with pytest.raises(BadArtifact) as caught:
        programs.load(path)
    line = str(caught.value).split("; ")[0]
    assert "\n" not in line
    assert str(path) in line
    assert re.search(message, line), line


def change(path: Path, edit: Callable[[Any], None]) -> None:
    model = package.read(path).model
    edit(model)
    (path / MODEL).write_bytes(model.SerializeToString())


def blobs(model: Any) -> list[Any]:
    """Where the constants are said to lie."""
    (block,) = model.mlProgram.functions["main"].block_specializations.values()
    values = [op.attributes["val"] for op in block.operations if op.type == "const"]
    return [value.blobFileValue for value in values if value.WhichOneof("value") == "blobFileValue"]


def test_the_original_is_whole(path: Path) -> None:
    program = programs.load(path)
    (weights,) = [c for c in program.constants.values() if c.type.shape == (6, 5)]
    same(weights.value, numbers((6, 5)))
    assert weights.stored_bytes == 120
    assert blobs(package.read(path).model)


def test_no_folder(tmp_path: Path) -> None:
    refused(tmp_path / "none.mlpackage", "is not an .mlpackage, which is a folder")
    file = tmp_path / "file.mlpackage"
    file.write_bytes(b"")
    refused(file, "is not an .mlpackage, which is a folder")


def test_an_empty_folder(tmp_path: Path) -> None:
    refused(tmp_path, r"incomplete: .*Manifest\.json: No such file")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"rootModelIdentifier": "a", "itemInfoEntries": {}}', '{"itemInfoEntries": {}}']
)
def test_a_manifest_without_a_root(path: Path, content: str) -> None:
    (path / "Manifest.json").write_text(content)
    refused(path, r"Manifest\.json does not name the model")


def test_a_root_that_is_not_there(path: Path) -> None:
    manifest = json.loads((path / "Manifest.json").read_text())
    manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = "com.apple.CoreML/other.mlmodel"
    (path / "Manifest.json").write_text(json.dumps(manifest))
    refused(path, r"incomplete: .*other\.mlmodel: No such file")


@pytest.mark.parametrize("part", [0.3, 0.6, 0.99])
def test_a_model_that_is_cut_short(path: Path, part: float) -> None:
    content = (path / MODEL).read_bytes()
    (path / MODEL).write_bytes(content[: int(len(content) * part)])
    refused(path, r"model\.mlmodel is not a Core ML specification")


def test_a_model_of_nothing(path: Path) -> None:
    (path / MODEL).write_bytes(b"")
    refused(path, r"model\.mlmodel holds nothing, not an ML Program")


def test_a_neural_network(path: Path) -> None:
    change(path, lambda model: model.neuralNetwork.SetInParent())
    refused(path, r"model\.mlmodel holds neuralNetwork, not an ML Program")


def test_no_weights(path: Path) -> None:
    (path / WEIGHTS).unlink()
    refused(path, r"weight\.bin cannot be read: No such file")


@pytest.mark.parametrize("kept", [0, 7, 70, 160])
def test_weights_that_are_cut_short(path: Path, kept: int) -> None:
    content = (path / WEIGHTS).read_bytes()
    assert len(content) > 160
    (path / WEIGHTS).write_bytes(content[:kept])
    refused(path, r"weight\.bin is cut short: \d+ bytes are missing at byte \d+")


def test_weights_of_another_version(path: Path) -> None:
    content = bytearray((path / WEIGHTS).read_bytes())
    content[4] = 1
    (path / WEIGHTS).write_bytes(content)
    refused(path, r"weight\.bin has storage version 1, not 2")


@pytest.mark.parametrize("offset", [10**6, 2**64 - 1])
def test_an_offset_behind_the_weights(path: Path, offset: int) -> None:
    change(path, lambda model: setattr(blobs(model)[0], "offset", offset))
    refused(path, rf"weight\.bin is cut short: 32 bytes are missing at byte {offset}")


def test_an_offset_between_the_records(path: Path) -> None:
    change(path, lambda model: setattr(blobs(model)[0], "offset", 8))
    refused(path, r"weight\.bin has no 30 values of float32 at byte 8")


@pytest.mark.parametrize(("at", "value"), [(4, 3), (8, 8)], ids=["dtype", "size"])
def test_a_record_of_something_else(path: Path, at: int, value: int) -> None:
    start = blobs(package.read(path).model)[0].offset
    content = bytearray((path / WEIGHTS).read_bytes())
    content[start + at] = value
    (path / WEIGHTS).write_bytes(content)
    refused(path, r"weight\.bin has no 30 values of float32")


def test_a_record_that_claims_more_than_there_can_be(path: Path) -> None:
    start = blobs(package.read(path).model)[0].offset
    content = bytearray((path / WEIGHTS).read_bytes())
    content[start + 15] = 0xFF
    (path / WEIGHTS).write_bytes(content)
    refused(path, r"weight\.bin is cut short")


@pytest.mark.parametrize(
    "name", ["@model_path/../../../other.bin", "/etc/hostname", "weights/weight.bin", "@model_path//etc/hostname"]
)
def test_weights_outside_of_the_package(path: Path, name: str) -> None:
    change(path, lambda model: setattr(blobs(model)[0], "fileName", name))
    refused(path, f"weights are said to lie in {re.escape(name)}, outside of the package")
