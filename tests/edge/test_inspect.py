"""`evit-edge inspect` as a user meets it."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from evit_edge.converters.artifact import Artifact, read, write_manifest

from ..converters.tflite import linear_file

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def one_line(stderr: str) -> str:
    (line,) = stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_artifacts_are_told_in_json_as_they_are(evit_edge: Run, demo: Artifact, demo_int8: Artifact) -> None:
    done = evit_edge("inspect", demo.folder, demo_int8.folder, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    float_file, int8_file = json.loads(done.stdout)
    assert float_file["file"] == str(demo.payload)
    assert float_file["size_bytes"] == demo.size_bytes
    assert float_file["inputs"] == [record.model_dump(mode="json") for record in demo.manifest.inputs]
    assert float_file["operators"]["Conv"] == 91
    assert float_file["macs"] == int8_file["macs"] == 77_897_600
    assert int8_file["target"] == "tflite"
    assert int8_file["precision_asked"] == int8_file["precision_found"] == "int8"
    integers = sum(share["macs"] for share in int8_file["shares"] if share["arithmetic"] == "int8")
    assert 0.95 < integers / int8_file["macs"] < 1
    for file in (float_file, int8_file):
        assert len(file["layers"]) > 160
        for total in ("macs", "weight_bytes"):
            assert sum(layer[total] for layer in file["layers"]) == file[total]
            assert sum(share[total] for share in file["shares"]) == file[total]
        assert file["weight_bytes"] < file["size_bytes"]


def test_a_person_gets_tables(evit_edge: Run, demo_int8: Artifact) -> None:
    done = evit_edge("inspect", demo_int8.folder, "--layers", "3")
    assert (done.returncode, done.stderr) == (0, "")
    first, *lines = done.stdout.splitlines()
    assert first.startswith(f"{demo_int8.payload}: 2.")
    assert first.endswith("int8 found in the file (int8 asked for)")
    assert "  input image 1×224×224×3 float32 nhwc" in lines
    assert "  output logits 1×10 float32" in lines
    cells = [line.split() for line in lines]
    assert ["CONV_2D", "49"] in cells
    assert ["int8", "—", "48", "2,347,904", "3.0%", "0", "0.0%"] in cells
    (layer,) = (row for row in cells if "stages.2.2.conv3/weight" in row)
    assert layer[1:] == ["CONV_2D", "int8", "int8", "98,304", "100,608", "4.4%", "1,572,864", "2.0%"]
    assert sum("/weight" in line for line in lines) == 3
    assert lines[-1] == "3 of 213 layers, those with the most bytes of weights."


@pytest.mark.parametrize(("layers", "count"), [("all", 165), ("0", 0), ("1000", 165)])
def test_as_many_layers_as_asked_for_are_listed(evit_edge: Run, demo: Artifact, layers: str, count: int) -> None:
    done = evit_edge("inspect", demo.folder, "--layers", layers)
    rows = done.stdout.partition("of all MACs")[2].partition("of all MACs")[2].splitlines()
    assert sum(line.endswith("% ") for line in rows) == count


def test_a_foreign_file_is_told_from_itself_alone(evit_edge: Run, demo: Artifact, tmp_path: Path) -> None:
    (tmp_path / "bare.tflite").write_bytes(linear_file.content())
    model = onnx.load(demo.payload)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "BARE.ONNX")
    done = evit_edge("inspect", "bare.tflite", "BARE.ONNX", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    linear, m0 = json.loads(done.stdout)
    assert linear["operators"] == {"RESHAPE": 1, "FULLY_CONNECTED": 1}
    assert (linear["macs"], linear["weight_bytes"]) == (1920, 7680)
    assert (linear["precision_asked"], linear["precision_found"]) == (None, "fp32")
    assert [tensor["name"] for tensor in (*linear["inputs"], *linear["outputs"])] == ["image", "logits"]
    assert m0["layers"] == [*json.loads(evit_edge("inspect", demo.folder, "--json").stdout)[0]["layers"]]


def test_another_precision_than_was_asked_for_ends_with_6(evit_edge: Run, demo: Artifact, tmp_path: Path) -> None:
    folder = shutil.copytree(demo.folder, tmp_path / "artifact")
    write_manifest(folder, read(folder).manifest.model_copy(update={"precision": "fp16"}))
    done = evit_edge("inspect", folder, demo.folder, "--json")
    assert done.returncode == 6
    assert one_line(done.stderr) == f"error: {folder / 'model.onnx'}: asked for fp16, the file holds fp32"
    assert [each["precision_asked"] for each in json.loads(done.stdout)] == ["fp16", "fp32"]


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory, demo: Artifact, demo_tflite: Artifact) -> Path:
    """What a user might give by mistake."""
    folder = tmp_path_factory.mktemp("bad")
    for artifact in (demo, demo_tflite):
        whole, name = artifact.payload.read_bytes(), artifact.payload.name
        (folder / f"half_{name}").write_bytes(whole[: len(whole) // 2])
        (folder / f"short_{name}").write_bytes(whole[:-30])
    changed = shutil.copytree(demo.folder, folder / "changed")
    (changed / "model.onnx").write_bytes((folder / "half_model.onnx").read_bytes())
    for name in ("folder", "folder.onnx", "folder.tflite"):
        (folder / name).mkdir()
    for name in ("text.onnx", "text.tflite", "text.txt"):
        (folder / name).write_text("not a model")
    for name in ("empty.onnx", "empty.tflite"):
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere", "there is no"),
        ("nowhere.onnx", "there is no"),
        ("folder", "no artifact at"),
        ("changed", "was changed since the artifact was written"),
        ("folder.onnx", "cannot be read: Is a directory"),
        ("folder.tflite", "cannot be read: Is a directory"),
        ("half_model.onnx", "is not an ONNX file, or ends early"),
        ("short_model.onnx", "is not an ONNX file, or ends early"),
        ("half_model.tflite", "damaged"),
        ("short_model.tflite", "damaged"),
        ("text.onnx", "is not an ONNX file"),
        ("text.tflite", "not a TFLite file"),
        ("text.txt", "is not a file that can be inspected"),
        ("empty.onnx", "is not an ONNX file"),
        ("empty.tflite", "not a TFLite file"),
    ],
)
def test_what_cannot_be_inspected_is_one_line_and_exit_code_3(evit_edge: Run, bad: Path, name: str, says: str) -> None:
    done = evit_edge("inspect", bad / name, "--json")
    assert done.returncode == 3, done.stderr
    line = one_line(done.stderr)
    assert says in line
    assert str(bad / name) in line
    assert json.loads(done.stdout)["error"]["kind"] == "BadArtifact"


@pytest.mark.parametrize("layers", ["many", "-1", "1.5", ""])
def test_a_number_of_layers_that_is_none_is_wrong_usage(evit_edge: Run, demo: Artifact, layers: str) -> None:
    done = evit_edge("inspect", demo.folder, "--layers", layers)
    assert done.returncode == 2
    assert "is neither a number nor all" in done.stderr
    assert done.stdout == ""


def test_the_command_explains_itself(evit_edge: Run) -> None:
    done = evit_edge("inspect", "--help")
    assert done.returncode == 0
    assert "evit-edge inspect" in done.stdout
    assert all(option in done.stdout for option in ("--json", "--layers"))
