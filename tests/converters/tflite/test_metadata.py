"""A .tflite file that says what it is: to interpreters, to unzip, to the standard's readers and to us."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evit_edge.converters.tflite.flatbuffer import pack, unpack
from evit_edge.converters.tflite.metadata import CARD, ENTRY, LABELS, read
from evit_edge.converters.tflite.metadata_schema import table
from evit_edge.models.errors import ConversionFailed, FileProblem, Unsupported
from evit_edge.models.spec import Preprocess

from . import linear_file
from .linear_file import EXTRA, INPUT, OUTPUT, SPEC, describe, labelled

PACKAGES = ("ai_edge_litert", "tflite_runtime")
label = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=8)
channel = st.floats(-1e6, 1e6, allow_subnormal=False)
deviation = st.floats(1e-6, 1e6)
anew_each_time = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)


def test_what_was_attached_is_read_back(described: Path) -> None:
    card = read(described)
    assert card.model.labels == SPEC.labels
    assert card.model.preprocess.value() == SPEC.preprocess
    assert (card.model.name, card.model.img_size, card.model.num_classes) == ("linear", 8, 10)
    assert (card.model.licence, card.model.weights_sha256) == (SPEC.licence, SPEC.weights_sha256)
    assert (card.inputs, card.outputs, card.extra) == ((INPUT,), (OUTPUT,), EXTRA)
    assert card.precision == "fp32"


def test_no_path_of_whoever_converted_is_in_the_file(described: Path) -> None:
    assert read(described).model.weights == "seeded"
    assert b"somebody" not in described.read_bytes()


def test_it_still_runs_in_both_interpreters(described: Path) -> None:
    image = np.random.default_rng(1).standard_normal((1, 8, 8, 3)).astype(np.float32)
    for package in PACKAGES:
        scores = linear_file.run(package, described, image)
        np.testing.assert_allclose(scores, image.reshape(1, -1) @ linear_file.WEIGHTS.T, atol=1e-4)


def test_it_is_a_zip_with_the_labels_uncompressed(described: Path) -> None:
    with zipfile.ZipFile(described) as archive:
        assert archive.testzip() is None
        assert archive.read(LABELS).decode().split("\n") == [*linear_file.LABELS, ""]
        assert json.loads(archive.read(CARD))["model"]["name"] == "linear"
        assert [entry.compress_type for entry in archive.infolist()] == [zipfile.ZIP_STORED] * 2


@pytest.mark.skipif(shutil.which("unzip") is None, reason="unzip is not installed")
def test_unzip_has_nothing_to_complain_about(described: Path) -> None:
    done = subprocess.run(["unzip", "-t", described], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_same_file_comes_out_each_time_and_earlier_metadata_goes(bare: Path) -> None:
    before = describe(bare).read_bytes()
    assert describe(bare, labelled(("other",))).read_bytes() != before
    assert describe(bare).read_bytes() == before
    assert list(bare.parent.iterdir()) == [bare]


def test_every_weight_is_aligned_in_the_finished_file(described: Path) -> None:
    data = described.read_bytes()
    at = data.index(linear_file.WEIGHTS.tobytes())
    assert at % 16 == 0


def test_other_metadata_of_the_file_stays(bare: Path) -> None:
    model = unpack(bare.read_bytes())
    entry, buffer = schema.MetadataT(), schema.BufferT()
    entry.name, entry.buffer, buffer.data = "min_runtime_version", len(model.buffers), b"1.5.0".ljust(16, b"\0")
    model.buffers.append(buffer)
    model.metadata = [entry]
    bare.write_bytes(pack(model))
    assert [item.name for item in unpack(describe(bare).read_bytes()).metadata] == [
        b"min_runtime_version",
        ENTRY.encode(),
    ]


def test_without_labels_there_is_no_file_of_labels(bare: Path) -> None:
    assert read(describe(bare, labelled(None))).model.labels is None
    assert zipfile.ZipFile(bare).namelist() == [CARD]


@anew_each_time
@given(labels=st.lists(label, min_size=1))
def test_labels_come_back_as_they_are(tmp_path: Path, labels: list[str]) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(linear_file.content())
    assert read(describe(path, labelled(labels))).model.labels == tuple(labels)


@pytest.mark.parametrize("wrong", ["a\nb", "a\n", "\r", "a\r\nb"])
def test_a_label_of_two_lines_is_refused_and_the_file_stays(bare: Path, wrong: str) -> None:
    before = bare.read_bytes()
    with pytest.raises(Unsupported, match="label 1 is"):
        describe(bare, labelled(["fine", wrong]))
    assert bare.read_bytes() == before


@anew_each_time
@given(
    size=st.integers(1, 4096),
    resize=st.integers(1, 4096),
    mean=st.tuples(channel, channel, channel),
    std=st.tuples(deviation, deviation, deviation),
)
def test_preprocessing_comes_back_to_the_last_bit(
    tmp_path: Path, size: int, resize: int, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(linear_file.content())
    preprocess = Preprocess(size=size, resize=resize, mean=mean, std=std)
    assert read(describe(path, replace(SPEC, preprocess=preprocess))).model.preprocess.value() == preprocess


def test_a_tensor_too_many_is_refused(bare: Path) -> None:
    with pytest.raises(ConversionFailed, match="has 1 outputs, and 2"):
        describe(bare, outputs=[OUTPUT, OUTPUT])


def test_a_field_that_a_table_does_not_have_is_a_bug() -> None:
    with pytest.raises(KeyError, match="has no names"):
        table("ImageSize", names=1)


def test_a_folder_that_cannot_be_written_is_named(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = bare.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(FileProblem, match="No space left"):
        describe(bare)
    assert bare.read_bytes() == before


def test_the_card_holds_all_of_the_preprocessing(described: Path) -> None:
    with zipfile.ZipFile(described) as archive:
        card = json.loads(archive.read(CARD))
    assert card["model"]["preprocess"] == json.loads(json.dumps(asdict(SPEC.preprocess)))
