"""`evit-edge convert --target tflite` as a user meets it."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from evit_edge.converters.artifact import Artifact

Run = Callable[..., "subprocess.CompletedProcess[str]"]

CONVERT = ("convert", "efficientvit_m0", "--weights", "demo", "--target")
TFLITE = (*CONVERT, "tflite")
INT8 = (*TFLITE, "--precision", "int8")


def one_line(stderr: str) -> str:
    (line,) = (line for line in stderr.splitlines() if line.strip())
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([*TFLITE, "--via", "magic"], "choose auto, direct, onnx2tf"),
        ([*TFLITE, "--io", "nhcw"], "choose nhwc, nchw"),
        ([*INT8, "--input", "float16"], "choose float, int8, uint8"),
        ([*TFLITE, "--input", "uint8"], "add --precision int8"),
        ([*TFLITE, "--precision", "w8a16", "--via", "direct"], "take --via onnx2tf, or int8"),
        ([*TFLITE, "--precision", "pal4"], "choose fp32, fp16, w8, int8, w8a16"),
        ([*TFLITE, "--opset", "18"], "--opset means nothing to tflite"),
        ([*CONVERT, "onnx", "--via", "direct"], "--via means nothing to onnx"),
        ([*CONVERT, "onnx", "--io", "nhwc"], "--io means nothing to onnx"),
        ([*TFLITE, "--calibrate", "."], "leave --calibrate out"),
        ([*TFLITE, "--calibration-images", "5"], "--calibration-images means nothing to tflite fp32"),
        ([*TFLITE, "--calibration-method", "mse"], "--calibration-method means nothing to tflite fp32"),
        ([*INT8, "--calibration-method", "mean"], "unknown calibration method 'mean'"),
        ([*INT8, "--calibration-images", "0"], "calibration with 0 images is not possible"),
    ],
)
def test_what_cannot_be_or_means_nothing_is_refused_in_one_line_before_any_work(
    evit_edge: Run, tmp_path: Path, arguments: list[str], says: str
) -> None:
    done = evit_edge(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert says in one_line(done.stderr)
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_calibration_images_that_are_not_there_or_are_none_are_named(evit_edge: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "floats.npz", images=np.full((2, 8, 8, 3), np.nan, np.float32))
    for name in ("nowhere", "empty", "floats.npz"):
        done = evit_edge(*INT8, "--calibrate", tmp_path / name, "--out", tmp_path / "out")
        assert done.returncode == 3, done.stderr
        assert str(tmp_path / name) in one_line(done.stderr)
    assert not (tmp_path / "out").exists()


def test_a_picture_to_calibrate_with_that_cannot_be_read_is_named_and_leaves_nothing(
    evit_edge: Run, tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "cat.png").write_text("a text")
    done = evit_edge(*INT8, "--parity-images", "1", "--calibrate", pictures, "--out", tmp_path / "out", "--quiet")
    assert done.returncode == 3
    assert f"{pictures / 'cat.png'} is not a picture" in one_line(done.stderr)
    assert list((tmp_path / "out").iterdir()) == []


def test_it_says_what_it_made_and_what_was_not_judged(evit_edge: Run, demo_int8: Artifact) -> None:
    arguments = [*INT8, "--parity-images", "16", "--calibration-images", "32"]
    done = evit_edge(*arguments, "--out", demo_int8.folder.parent)
    assert done.returncode == 0, done.stderr
    assert "model.tflite: 2." in done.stdout
    assert "int8 found in the file, input image 1×224×224×3" in done.stdout
    judged = [line for line in done.stdout.splitlines() if "parity" in line]
    assert ["(beyond the calibration: not judged)" in line for line in judged] == [False, False, False, True]


def test_parity_shows_what_lies_beyond_the_calibration_and_does_not_count_it(
    evit_edge: Run, demo_tflite: Artifact, demo_int8: Artifact
) -> None:
    done = evit_edge("parity", demo_tflite.folder, demo_int8.folder, "--json")
    assert done.returncode == 0, done.stderr
    judged = [[row["judged"] for row in verdict["rows"]] for verdict in json.loads(done.stdout)]
    assert judged == [[True] * 4, [True, True, True, False]]


def test_both_targets_of_one_command_stand_side_by_side(
    evit_edge: Run, demo: Artifact, demo_tflite: Artifact, tmp_path: Path
) -> None:
    done = evit_edge(*CONVERT, "onnx", "--target", "tflite", "--parity-images", "16", "--json", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert [answer["key"] for answer in answers] == [demo.manifest.key, demo_tflite.manifest.key]
    assert len(list(tmp_path.iterdir())) == 2
