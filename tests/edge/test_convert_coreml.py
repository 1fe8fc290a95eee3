"""Core ML as a user meets it on a machine without Core ML: converted, looked into, tried, refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from evit_edge.converters.artifact import Artifact
from evit_edge.converters.coreml.executor import LABEL
from evit_edge.models.sample_images import sample_digits
from evit_edge.models.spec import ModelRequest, find

from ..converters.coreml.mil import program
from ..converters.coreml.test_package import WEIGHTS

Run = Callable[..., "subprocess.CompletedProcess[str]"]

CONVERT = ("convert", "efficientvit_m0", "--weights", "demo", "--target")
COREML = (*CONVERT, "coreml")
INT8 = (*COREML, "--precision", "int8")
GATE = ("--parity-images", "4")
HIDING = """
from importlib.machinery import PathFinder
own = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name.partition(".")[0] == "coremltools" else own(name, *rest)
"""


def one_line(stderr: str) -> str:
    (line,) = stderr.splitlines()
    assert line.startswith("error: ")
    return line


def strictly(text: str) -> Any:
    """JSON as the standard has it, which knows neither NaN nor Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{index}.png" for index in range(3)]
    for path, pixels in zip(paths, sample_digits(40, spec().preprocess)[::13], strict=False):
        Image.fromarray(pixels).save(path)
    return paths


def spec() -> Any:
    return find(ModelRequest(name="efficientvit_m0", weights="demo"))


def original(pictures: list[Path]) -> list[tuple[str, float]]:
    """The likeliest class of each and its probability, from the model itself."""
    pixels = np.stack([spec().preprocess.pixels(Image.open(path)) for path in pictures])
    with torch.inference_mode():
        shares = spec().build()(torch.from_numpy(spec().preprocess.normalise(pixels))).softmax(-1)
    return [(spec().labels[int(row.argmax())], float(row.max())) for row in shares]


def test_a_new_package_is_told_in_full_and_no_library_says_a_word(converted_coreml: tuple[Artifact, Any]) -> None:
    artifact, done = converted_coreml
    assert (done.returncode, done.stderr) == (0, "")
    folder, *lines = done.stdout.splitlines()
    assert Path(folder) == artifact.folder
    assert (Path(folder) / "model.mlpackage" / "Manifest.json").is_file()
    assert lines[0].startswith("  model.mlpackage: 4.")
    assert lines[0].endswith("MiB, fp16 found in the file, input image 1×3×224×224")
    assert lines[1] == f"  compared with the original in: {LABEL}"
    assert [line.split()[:2] for line in lines[2:6]] == [
        ["parity", group] for group in ("images", "noise", "zeros", "large")
    ]
    assert any("Xcode: drag model.mlpackage into the project" in line for line in lines[6:])
    assert "Converting PyTorch" not in done.stdout


def test_pictures_and_labels_are_told_in_json_alone(evit_edge: Run, demo_classifier: Artifact) -> None:
    options = ["--input", "image", "--output", "classifier", "--json"]
    done = evit_edge(*COREML, *GATE, *options, "--out", demo_classifier.folder.parent)
    assert (done.returncode, done.stderr) == (0, "")
    (answer,) = strictly(done.stdout)
    assert answer["folder"] == str(demo_classifier.folder)
    assert answer["inputs"][0]["normalisation"]["mean"] == [0.485, 0.456, 0.406]
    assert answer["outputs"][0]["softmax"] is True
    assert answer["options"]["input"] == "image"
    assert [row["passed"] for row in answer["parity"]["rows"]] == [True, True]


@pytest.mark.parametrize("kind", ["tensor", "classifier"])
def test_the_package_alone_knows_what_the_original_knows(
    evit_edge: Run, demo_coreml: Artifact, demo_classifier: Artifact, pictures: list[Path], tmp_path: Path, kind: str
) -> None:
    artifact = {"tensor": demo_coreml, "classifier": demo_classifier}[kind]
    alone = shutil.copytree(artifact.payload, tmp_path / "any name.mlpackage")
    done = evit_edge("predict", alone, *pictures, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    best = [answer["top"][0] for answer in strictly(done.stdout)]
    wanted = original(pictures)
    assert [guess["label"] for guess in best] == [label for label, _ in wanted]
    np.testing.assert_allclose([guess["probability"] for guess in best], [share for _, share in wanted], atol=1e-2)


def test_an_artifact_and_a_package_of_others_are_looked_into(
    evit_edge: Run, demo_coreml: Artifact, tmp_path: Path
) -> None:
    bare = program(lambda mb, x: mb.linear(x=x, weight=np.eye(4, 3)), {"x": (1, 3)}, "iOS16", "FLOAT32", tmp_path)
    done = evit_edge("inspect", demo_coreml.folder, bare, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    ours, other = strictly(done.stdout)
    assert (ours["target"], ours["precision_asked"], ours["precision_found"]) == ("coreml", "fp16", "fp16")
    assert ours["file"] == str(demo_coreml.payload)
    assert ours["size_bytes"] == demo_coreml.size_bytes
    assert ours["macs"] == 77_897_600
    assert ours["inputs"] == [record.model_dump(mode="json") for record in demo_coreml.manifest.inputs]
    for total in ("macs", "weight_bytes"):
        assert sum(layer[total] for layer in ours["layers"]) == ours[total]
    assert (other["precision_asked"], other["precision_found"], other["operators"]) == (None, "fp32", {"linear": 1})
    assert (other["macs"], other["weight_bytes"]) == (12, 48)
    table = evit_edge("inspect", demo_coreml.folder, "--layers", "3")
    assert (table.returncode, table.stderr) == (0, "")
    assert "fp16 found in the file (fp16 asked for)" in table.stdout


def test_parity_names_the_operators_where_rounding_costs_most(evit_edge: Run, demo_coreml: Artifact) -> None:
    done = evit_edge("parity", demo_coreml.folder, "--operators", "5")
    assert (done.returncode, done.stderr) == (0, "")
    assert LABEL.split(",")[0] in " ".join(done.stdout.split())
    _, _, table = done.stdout.partition("where rounding costs most")
    assert sum("float16" in line for line in table.splitlines()[:-1]) == 5


@pytest.mark.slow
def test_parity_tells_all_operators_in_json(evit_edge: Run, demo_coreml: Artifact) -> None:
    told = evit_edge("parity", demo_coreml.folder, "--operators", "5", "--json")
    assert (told.returncode, told.stderr) == (0, "")
    (verdict,) = strictly(told.stdout)
    assert verdict["passed"] is True
    assert verdict["engine"] == "coreml_reference"
    assert len(verdict["operators"]) > 200
    assert {"name", "kind", "dtype", "largest", "finite", "sqnr_db", "lost_db"} == set(verdict["operators"][0])


def test_operators_of_an_engine_that_cannot_tell_are_refused(evit_edge: Run, demo: Artifact) -> None:
    done = evit_edge("parity", demo.folder, "--operators", "5")
    assert done.returncode == 2
    assert "leave --operators out" in one_line(done.stderr)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([*COREML, "--ios", "iOS14"], "choose auto, iOS15, iOS16, iOS17, iOS18, iOS26"),
        ([*INT8, "--ios", "iOS16"], "take --ios iOS17 or later"),
        ([*COREML, "--precision", "pal4", "--ios", "iOS15"], "take --ios iOS16 or later"),
        ([*COREML, "--precision", "w8a16"], "choose fp32, fp16, w8, int8, pal8, pal6, pal4"),
        ([*COREML, "--input", "image", "--batch", "4"], "one picture at a time"),
        ([*COREML, "--output", "classifier", "--batch", "dynamic"], "one picture at a time"),
        ([*COREML, "--batch", "4,1"], "give a list such as 1,4,16, or a range such as 1..64"),
        ([*COREML, "--batch", "1,2..4"], "give a list such as 1,4,16, or a range such as 1..64"),
        ([*CONVERT, "onnx", "--batch", "1,4"], "--batch 1,4 means nothing to onnx"),
        ([*CONVERT, "tflite", "--batch", "1..4"], "--batch 1..4 means nothing to tflite"),
        ([*CONVERT, "onnx", "--ios", "iOS16"], "--ios means nothing to onnx"),
        ([*COREML, "--via", "direct"], "--via means nothing to coreml"),
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


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory, demo_coreml: Artifact) -> Path:
    """What a user might give by mistake."""
    folder = tmp_path_factory.mktemp("bad")
    changed = shutil.copytree(demo_coreml.folder, folder / "changed")
    cut = shutil.copytree(demo_coreml.payload, folder / "cut.mlpackage")
    for weights in (changed / "model.mlpackage" / WEIGHTS, cut / WEIGHTS):
        weights.write_bytes(weights.read_bytes()[:100_000])
    (folder / "empty.mlpackage").mkdir()
    (folder / "file.mlpackage").write_text("a text")
    return folder


@pytest.mark.parametrize("command", ["predict", "inspect"])
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("changed", "weight.bin was changed since the artifact was written"),
        ("cut.mlpackage", "weight.bin is cut short"),
        ("empty.mlpackage", "is incomplete"),
        ("file.mlpackage", "is not an .mlpackage, which is a folder"),
        ("none.mlpackage", "there is no"),
    ],
)
def test_what_is_damaged_is_one_line_and_exit_code_3(
    evit_edge: Run, bad: Path, pictures: list[Path], command: str, name: str, says: str
) -> None:
    done = evit_edge(command, bad / name, *(pictures[:1] if command == "predict" else ()), "--json")
    assert done.returncode == 3, done.stderr
    line = one_line(done.stderr)
    assert says in line
    assert str(bad / name) in line
    assert strictly(done.stdout)["error"]["kind"] == "BadArtifact"


def test_without_coremltools_there_is_a_hint_and_everything_else_works(
    evit_edge: Run, demo: Artifact, demo_coreml: Artifact, pictures: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDING)
    hidden = {"env": {**os.environ, "PYTHONPATH": str(tmp_path)}}
    for arguments in (
        (*COREML, "--out", tmp_path / "out"),
        ("predict", demo_coreml.payload, pictures[0]),
        ("inspect", demo_coreml.folder),
    ):
        done = evit_edge(*arguments, **hidden)
        assert done.returncode == 3, done.stderr
        assert "pip install coremltools" in one_line(done.stderr)
    assert not (tmp_path / "out").exists()
    done = evit_edge("predict", demo.folder, pictures[0], **hidden)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML is there")
def test_speed_is_measured_on_a_mac_alone(evit_edge: Run, demo_coreml: Artifact, tmp_path: Path) -> None:
    for options, code, says in (
        (["--runtime", "coreml_reference"], 2, "coreml_reference is not timed"),
        (["--runtime", "coreml"], 3, "Core ML predicts on macOS alone"),
    ):
        done = evit_edge("bench", demo_coreml.folder, *options, "--effort", "quick", "--out", tmp_path / "r.jsonl")
        assert done.returncode == code, done.stderr
        assert says in next(line for line in done.stderr.splitlines() if line.startswith("error: "))


def processes_below(folder: Path) -> list[str]:
    found = subprocess.run(["pgrep", "-f", str(folder)], capture_output=True, text=True, check=False)
    return found.stdout.split()


@pytest.mark.slow
def test_an_interruption_ends_with_130_and_leaves_nothing(tmp_path: Path) -> None:
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-m", "evit_edge", *COREML, "--seed", "302", "--out", str(out)]
    environment = {**os.environ, "TMPDIR": str(scratch)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    deadline = time.monotonic() + 60
    # The first program is written into a folder for a while.
    while not list(scratch.rglob("*.mlpackage")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (stdout, stderr.strip()) == ("", "interrupted")
    assert list(out.iterdir()) == []
    assert processes_below(out) == []
    assert list(scratch.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(evit_edge: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    done = evit_edge(*COREML, "--seed", "303", "--out", tmp_path / "file" / "out")
    assert done.returncode == 3
    assert str(tmp_path / "file" / "out") in one_line(done.stderr)
    assert (tmp_path / "file").read_text() == "mine"
