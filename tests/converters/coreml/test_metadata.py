"""What a package says of itself, and that it says the same on every day and machine."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest

from evit_edge.converters.coreml import metadata, package
from evit_edge.models.errors import BadArtifact

from .test_package import change
from .tiny import LABELS, PREPROCESS, planned, spec, written


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(planned(), tmp_path_factory.mktemp("described"))


@pytest.fixture
def path(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "copy.mlpackage")


def own(path: Path) -> Any:
    return package.read(path).model.description.metadata.userDefined


def test_the_card_comes_back_from_any_place(path: Path) -> None:
    card = metadata.read(path)
    assert card.model.labels == LABELS
    assert card.model.preprocess.value() == PREPROCESS
    assert card.model.weights_sha256 == spec().weights_sha256
    assert card.extra == {"manifest_key": planned().key}


def test_a_package_without_a_card_is_not_ours(path: Path) -> None:
    change(path, lambda model: model.description.metadata.userDefined.pop(metadata.CARD))
    with pytest.raises(BadArtifact, match=r"copy\.mlpackage has no evit-edge\.card"):
        metadata.read(path)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda text: text[:-20], "is not a card: it: Invalid JSON"),
        (lambda text: text.replace('"fp16"', '"fp17"'), "is not a card: precision: "),
        (lambda text: text.replace('"schema": 1', '"schema": 2'), "is not a card: schema: "),
        (lambda text: json.dumps({**json.loads(text), "more": 1}), "is not a card: more: "),
        (lambda text: "", "is not a card: it: "),
    ],
)
def test_a_card_that_is_damaged_is_told_in_one_line(path: Path, edit: Any, says: str) -> None:
    def changed(model: Any) -> None:
        properties = model.description.metadata.userDefined
        properties[metadata.CARD] = edit(properties[metadata.CARD])

    change(path, changed)
    with pytest.raises(BadArtifact) as caught:
        metadata.read(path)
    assert f"{path}: evit-edge.card {says}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_manifest_names_its_items_the_same_every_time(original: Path) -> None:
    manifest = json.loads((original / "Manifest.json").read_text())
    items = manifest["itemInfoEntries"]
    assert {item["path"] for item in items.values()} == {"com.apple.CoreML/model.mlmodel", "com.apple.CoreML/weights"}
    assert items[manifest["rootModelIdentifier"]]["path"] == "com.apple.CoreML/model.mlmodel"
    for identifier, item in items.items():
        assert identifier == str(uuid.uuid5(uuid.NAMESPACE_URL, item["path"]))


def test_all_may_read_what_was_written_under_a_strict_mask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        path = written(planned("fp32"), tmp_path)
    finally:
        os.umask(before)
    modes = {file.is_dir(): file.stat().st_mode & 0o777 for file in path.rglob("*")}
    assert modes == {True: 0o755, False: 0o644}


def test_who_made_the_weights_is_not_made_up(tmp_path: Path) -> None:
    found = package.read(written(planned("fp32", of=spec(author="")), tmp_path)).model.description.metadata
    assert (found.author, found.license) == ("", "MIT")


def test_what_coremltools_says_of_its_versions_stays(original: Path) -> None:
    assert own(original)["com.github.apple.coremltools.version"]
    assert own(original)["com.github.apple.coremltools.source"].startswith("torch==")
