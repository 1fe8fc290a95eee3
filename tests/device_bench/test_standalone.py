"""A .tflite file alone is as good as the folder that it comes from."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evit_edge.device_bench.predict import classify
from evit_edge.device_bench.session import RUNTIMES, Bound, default_runtime
from evit_edge.device_bench.standalone import opened
from evit_edge.models.errors import BadArtifact, FileProblem

from ..converters.tflite import linear_file
from .conftest import MakeArtifact

ENGINES = [
    name
    for name, each in ((name, RUNTIMES.load(name)) for name in RUNTIMES.names())
    if each.opens("tflite") and not (each.original or isinstance(each, Bound))
]


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    path = tmp_path / "any name.tflite"
    path.write_bytes(linear_file.content())
    return linear_file.describe(path)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    pixels = np.random.default_rng(2).integers(0, 256, (20, 15, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_answers_what_the_arithmetic_says(alone: Path, picture: Path, engine: str) -> None:
    with opened(alone) as artifact:
        ((path, guesses),) = classify(artifact, [picture], runtime=engine, top=3)
    preprocess = linear_file.PREPROCESS
    image = preprocess.normalise(preprocess.pixels(Image.open(picture))[None]).transpose(0, 2, 3, 1)
    scores = (image.reshape(1, -1) @ linear_file.WEIGHTS.T)[0].astype(np.float64)
    probabilities = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    best = np.argsort(-scores)[:3]
    assert path == picture
    assert [guess.label for guess in guesses] == [linear_file.LABELS[index] for index in best]
    np.testing.assert_allclose([guess.probability for guess in guesses], probabilities[best], atol=1e-4)


def test_the_default_engine_of_a_file_is_that_of_its_target(alone: Path) -> None:
    with opened(alone) as artifact:
        assert default_runtime(artifact.manifest.target) in ENGINES


def test_the_folder_made_of_a_file_is_gone_afterwards_and_the_file_is_not(alone: Path, scratch: Path) -> None:
    before = alone.read_bytes()
    with opened(alone) as artifact:
        assert artifact.folder.parent == scratch
        assert artifact.payload.read_bytes() == before
    assert list(scratch.iterdir()) == []
    assert alone.read_bytes() == before


def test_what_the_file_says_is_in_the_manifest(alone: Path) -> None:
    with opened(alone) as artifact:
        manifest = artifact.manifest
    assert (manifest.model.name, manifest.model.labels) == ("linear", linear_file.LABELS)
    assert manifest.key == linear_file.EXTRA["manifest_key"]
    assert (manifest.inputs, manifest.outputs) == ((linear_file.INPUT,), (linear_file.OUTPUT,))
    assert (manifest.target, manifest.precision, manifest.precision_found) == ("tflite", "fp32", "fp32")
    assert manifest.parity is None


def test_a_folder_is_opened_where_it_is(make_artifact: MakeArtifact) -> None:
    made = make_artifact()
    with opened(made.folder) as found:
        assert found == made


def test_a_scratch_folder_without_space_is_named(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(FileProblem, match="No space left"), opened(alone):
        pass


def test_neither_a_folder_nor_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadArtifact, match="there is no"), opened(tmp_path / "none.tflite"):
        pass
