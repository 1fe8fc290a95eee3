"""`evit-edge predict` with a .tflite file and nothing else."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ..converters.tflite import linear_file

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that describes itself, one that does not, others that are none, and a picture."""
    folder = tmp_path_factory.mktemp("files")
    for name in ("model.tflite", "bare.tflite"):
        (folder / name).write_bytes(linear_file.content())
    whole = linear_file.describe(folder / "model.tflite").read_bytes()
    (folder / "half.tflite").write_bytes(whole[: len(whole) // 2])
    (folder / "short.tflite").write_bytes(whole[:-30])
    (folder / "text.tflite").write_text("not a model")
    (folder / "empty.tflite").touch()
    (folder / "folder").mkdir()
    pixels = np.random.default_rng(2).integers(0, 256, (20, 15, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    return folder


def test_it_answers_in_json_and_as_a_table(evit_edge: Run, files: Path) -> None:
    done = evit_edge("predict", "model.tflite", "picture.png", "picture.png", "--json", cwd=files)
    assert (done.returncode, done.stderr) == (0, "")
    first, second = json.loads(done.stdout)
    assert first == second
    assert first["image"] == "picture.png"
    assert [guess["label"] in linear_file.LABELS for guess in first["top"]] == [True] * 5
    done = evit_edge("predict", files / "model.tflite", files / "picture.png", "--runtime", "tflite")
    assert done.stdout.count("%") == 5


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none.tflite", "there is no"),
        ("folder", "no artifact at"),
        ("bare.tflite", "has no metadata"),
        ("half.tflite", "damaged"),
        ("short.tflite", "damaged"),
        ("text.tflite", "not a TFLite file"),
        ("empty.tflite", "not a TFLite file"),
        ("picture.png", "neither an artifact nor a converted file"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_exit_code_3(evit_edge: Run, files: Path, name: str, says: str) -> None:
    done = evit_edge("predict", files / name, files / "picture.png", "--json")
    assert done.returncode == 3, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert says in line
    assert str(files / name) in line
    assert json.loads(done.stdout)["error"]["kind"] == "BadArtifact"
