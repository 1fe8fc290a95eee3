"""Files that cannot be described or do not describe themselves: one line says why."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from evit_edge.converters.tflite.flatbuffer import pack, unpack
from evit_edge.converters.tflite.metadata import CARD, read
from evit_edge.models.errors import BadArtifact

from .linear_file import describe


def refused(path: Path) -> str:
    with pytest.raises(BadArtifact) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_file_without_metadata_is_refused(bare: Path) -> None:
    assert "has no metadata" in refused(bare)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "none.tflite")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG" + bytes(100)])
def test_what_is_no_tflite_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(content)
    assert "not a TFLite file" in refused(path)
    with pytest.raises(BadArtifact):
        describe(path)


@pytest.mark.parametrize("cut", [1, 22, 100, 400, 1200, 4000])
def test_a_file_that_was_cut_off_is_refused(described: Path, cut: int) -> None:
    described.write_bytes(described.read_bytes()[:-cut])
    assert "damaged" in refused(described)


def test_a_changed_byte_in_the_card_is_noticed(described: Path) -> None:
    data = bytearray(described.read_bytes())
    data[data.rindex(b"Apache-2.0")] ^= 1
    described.write_bytes(data)
    assert "damaged" in refused(described)


def rewritten(path: Path, **files: str) -> Path:
    """The file with other things in its ZIP; without what is empty."""
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist()}
    kept |= {name.replace("_", "."): content.encode() for name, content in files.items()}
    path.write_bytes(pack(unpack(path.read_bytes())))
    with zipfile.ZipFile(path, "a") as archive:
        for name, content in kept.items():
            if content:
                archive.writestr(name, content)
    return path


def test_metadata_of_somebody_else_is_refused(described: Path) -> None:
    assert f"no {CARD}" in refused(rewritten(described, **{CARD: ""}))


@pytest.mark.parametrize("card", ["{", "[]", '{"schema": 2}', '{"schema": 1, "model": {}}'])
def test_a_card_that_is_none_is_refused(described: Path, card: str) -> None:
    assert f"{CARD} is not a card" in refused(rewritten(described, **{CARD: card}))


def test_labels_that_do_not_fit_the_classes_are_refused(described: Path) -> None:
    assert "1 labels for 10 classes" in refused(rewritten(described, labels_txt="one\n"))
