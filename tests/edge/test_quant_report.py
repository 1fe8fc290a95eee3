"""`evit-edge quant-report` as a user meets it."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from evit_edge.converters.artifact import Artifact
from evit_edge.converters.tflite import flatbuffer

Run = Callable[..., "subprocess.CompletedProcess[str]"]

DEEP = b"stages.2.1.pw2/conv_2d"


def one_line(stderr: str) -> str:
    (line,) = [line for line in stderr.splitlines() if line.strip()]
    return line


@pytest.mark.slow
def test_the_report_of_an_honest_artifact(evit_edge: Run, demo_int8: Artifact, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = evit_edge("quant-report", demo_int8.folder, "--images", "2", "--html", page)
    assert (done.returncode, done.stderr) == (0, "")
    assert "the same first class on 2 of 2" in done.stdout
    assert "suspicious" not in done.stdout
    assert "BATCH_MATMUL" in done.stdout
    assert "<svg" in page.read_text()
    data = tmp_path / "data.npz"
    np.savez(data, images=np.full((3, 40, 40, 3), 200, np.uint8))
    done = evit_edge("quant-report", demo_int8.folder, "--data", data, "--json")
    report = json.loads(done.stdout)
    assert (report["images"], report["left_out"], report["notes"]) == (3, [], [])
    assert len(report["operators"]) > 400


@pytest.mark.slow
def test_a_scale_that_somebody_changed_is_found_and_named(evit_edge: Run, demo_int8: Artifact, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(demo_int8.folder, tmp_path / "artifact"))
    path = folder / "model.tflite"
    content = bytearray(path.read_bytes())
    model = flatbuffer.unpack(bytes(content))
    (tensor,) = [tensor for tensor in model.subgraphs[0].tensors if tensor.name == DEEP]
    before = np.array(tensor.quantization.scale, np.float32)
    # In its place, so that the files behind the model stay where they are.
    assert content.count(before.tobytes()) == 1
    path.write_bytes(content.replace(before.tobytes(), (16 * before).tobytes()))
    done = evit_edge("quant-report", folder, "--images", "2", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    suspicious = [loss["name"] for loss in report["operators"] if loss["suspicious"]]
    assert suspicious == [DEEP.decode()]
    assert "was changed since the artifact was written" in report["notes"][0]


def test_what_holds_floats_is_refused_in_a_line(evit_edge: Run, demo: Artifact) -> None:
    done = evit_edge("quant-report", demo.folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "nothing is quantized" in one_line(done.stderr)


@pytest.fixture
def copied(demo: Artifact, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo.folder, tmp_path / "artifact"))


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"target": "nonsense"}, 2, "unknown target"),
        ({"precision": "int8", "target": "tflite"}, 3, "not a TFLite file"),
        ({"model": {"weights": "/no/such/weights.safetensors"}}, 3, "/no/such/weights.safetensors"),
    ],
)
def test_a_mistake_is_one_line(evit_edge: Run, copied: Path, change: dict[str, object], code: int, says: str) -> None:
    manifest = json.loads((copied / "artifact.json").read_text())
    for key, value in change.items():
        manifest[key] = {**manifest[key], **value} if isinstance(value, dict) else value
    (copied / "artifact.json").write_text(json.dumps(manifest))
    done = evit_edge("quant-report", copied)
    assert done.returncode == code, done.stderr
    line = one_line(done.stderr)
    assert line.startswith("error: ")
    assert says in line
    assert done.stdout == ""


def test_no_artifact_and_no_data_are_said(evit_edge: Run, demo_int8: Artifact, tmp_path: Path) -> None:
    done = evit_edge("quant-report", tmp_path)
    assert (done.returncode, one_line(done.stderr).startswith("error: no artifact at")) == (3, True)
    done = evit_edge("quant-report", demo_int8.folder, "--data", tmp_path / "none.npz")
    assert (done.returncode, "none.npz" in one_line(done.stderr)) == (3, True)
