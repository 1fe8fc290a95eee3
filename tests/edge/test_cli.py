"""The command line as a user meets it: what it prints where, and the exit code."""

import csv
import io
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evit_edge.converters.artifact import Artifact
from evit_edge.models.sample_images import sample_digits

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def one_line(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.strip()]
    assert len(lines) == 1, stderr
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.fixture(scope="session")
def results(demo: Artifact, evit_edge: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The original and the artifact, measured once."""
    path = tmp_path_factory.mktemp("results") / "results.jsonl"
    arguments = ["--runtime", "torch", "--runtime", "onnxruntime", "--effort", "quick", "--out", path]
    done = evit_edge("bench", demo.folder, *arguments)
    # 7: this machine is too busy for figures that count.
    assert done.returncode in (0, 7), done.stderr
    return path


@pytest.mark.parametrize(
    "command",
    [
        "models",
        "convert",
        "parity",
        "inspect",
        "eval",
        "bench",
        "compare",
        "run",
        "report",
        "profile",
        "predict",
        "doctor",
    ],
)
def test_every_command_explains_itself(evit_edge: Run, command: str) -> None:
    done = evit_edge(command, "--help")
    assert done.returncode == 0
    assert f"evit-edge {command}" in done.stdout
    assert "--json" in done.stdout


def test_models_lists_the_six_with_counted_figures(evit_edge: Run) -> None:
    done = evit_edge("models", "--json")
    found = {row["name"]: row for row in json.loads(done.stdout)}
    assert list(found) == [f"efficientvit_m{index}" for index in range(6)]
    assert found["efficientvit_m0"]["parameters"] == 2_349_436
    assert found["efficientvit_m5"]["macs"] == pytest.approx(521.59e6, rel=1e-3)
    assert "demo" in found["efficientvit_m0"]["weights"]
    assert "demo" not in found["efficientvit_m5"]["weights"]


def test_convert_answers_in_json_alone(evit_edge: Run, demo: Artifact) -> None:
    arguments = ["--weights", "demo", "--target", "onnx", "--parity-images", "16", "--json"]
    done = evit_edge("convert", "efficientvit_m0", *arguments, "--out", demo.folder.parent)
    (answer,) = json.loads(done.stdout)
    assert answer["folder"] == str(demo.folder)
    assert answer["parity"]["passed"] is True


def test_convert_says_what_it_made(evit_edge: Run, demo: Artifact) -> None:
    arguments = ["--weights", "demo", "--target", "onnx", "--parity-images", "16"]
    done = evit_edge("convert", "efficientvit_m0", *arguments, "--out", demo.folder.parent)
    assert done.returncode == 0
    assert "fp32 found in the file" in done.stdout
    assert "parity images (16)" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["convert", "eficientvit_m0", "--target", "onnx"], 2, "did you mean efficientvit_m0"),
        (["convert", "efficientvit_m0", "--weights", "demo", "--target", "tensorrt"], 2, "unknown target 'tensorrt'"),
        (
            ["convert", "efficientvit_m0", "--weights", "demo", "--target", "onnx", "--precision", "pal4"],
            2,
            "choose fp32",
        ),
        (["convert", "efficientvit_m0", "--weights", "demo", "--target", "onnx", "--opset", "3"], 2, "opset 3"),
        (["convert", "efficientvit_m1", "--weights", "demo", "--target", "onnx"], 2, "no demo weights"),
        (["convert", "efficientvit_m0", "--weights", "/no/such.pth", "--target", "onnx"], 3, "/no/such.pth"),
        (
            ["convert", "efficientvit_m0", "--weights", "demo", "--num-classes", "7", "--target", "onnx"],
            3,
            "10 classes",
        ),
        (["parity", "/no/such/artifact"], 3, "/no/such/artifact"),
        (["bench", "/no/such/artifact"], 3, "/no/such/artifact"),
        (["predict", "/no/such/artifact", "x.png"], 3, "/no/such/artifact"),
        (["inspect", "/no/such/artifact"], 3, "/no/such/artifact"),
        (["report", "/no/such.jsonl"], 3, "/no/such.jsonl"),
    ],
)
def test_a_mistake_is_one_line_with_the_documented_exit_code(
    evit_edge: Run, tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    done = evit_edge(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert says in one_line(done.stderr)
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["convert"],
        ["convert", "efficientvit_m0", "--target", "onnx", "--weights", "demo", "--batch", "many"],
        ["bench", "x", "--threads", "two"],
        ["report", "x", "--format", "docx"],
        ["nonsense"],
    ],
)
def test_wrong_usage_ends_with_2(evit_edge: Run, arguments: list[str]) -> None:
    done = evit_edge(*arguments)
    assert done.returncode == 2
    assert "Usage: evit-edge" in done.stderr
    assert done.stdout == ""


def test_an_error_is_json_too_where_json_was_asked_for(evit_edge: Run) -> None:
    done = evit_edge("parity", "/no/such/artifact", "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"]["kind"] == "BadArtifact"
    one_line(done.stderr)


def test_official_weights_without_a_network_fail_with_the_address_and_the_way_out(
    evit_edge: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EVIT_EDGE_WEIGHTS_URL", "http://127.0.0.1:9/weights")
    monkeypatch.setenv("EVIT_EDGE_CACHE", str(tmp_path / "cache"))
    done = evit_edge("convert", "efficientvit_m4", "--target", "onnx", cwd=tmp_path)
    assert done.returncode == 3
    assert "http://127.0.0.1:9/weights/efficientvit_m4.pth" in one_line(done.stderr)
    assert "--weights FILE" in done.stderr
    assert not (tmp_path / "artifacts").exists()


def test_parity_is_checked_again_from_disk(evit_edge: Run, demo: Artifact) -> None:
    done = evit_edge("parity", demo.folder, "--json")
    assert done.returncode == 0
    (verdict,) = json.loads(done.stdout)
    assert verdict["passed"] is True
    assert verdict["engine"] == "onnxruntime"


@pytest.mark.slow
def test_an_artifact_agrees_with_itself_and_not_with_another_model(
    evit_edge: Run, demo: Artifact, tmp_path: Path
) -> None:
    assert evit_edge("parity", demo.folder, "--against", demo.folder).returncode == 0
    arguments = ["--weights", "random", "--num-classes", "10", "--target", "onnx", "--parity-images", "1", "--json"]
    other = json.loads(evit_edge("convert", "efficientvit_m0", *arguments, "--out", tmp_path).stdout)[0]["folder"]
    done = evit_edge("parity", demo.folder, "--against", other)
    assert done.returncode == 5
    assert "NO" in done.stdout


def test_predict_reads_digits_from_pictures_with_nothing_but_the_artifact(
    evit_edge: Run, demo: Artifact, tmp_path: Path
) -> None:
    pictures = []
    for index, pixels in enumerate(sample_digits(8, demo.manifest.model.preprocess.value())):
        pictures.append(tmp_path / f"{index}.png")
        Image.fromarray(pixels).save(pictures[-1])
    answers = json.loads(evit_edge("predict", demo.folder, *pictures, "--json").stdout)
    assert [answer["image"] for answer in answers] == list(map(str, pictures))
    assert all(len(answer["top"]) == 5 and 0.1 < answer["top"][0]["probability"] <= 1 for answer in answers)
    assert evit_edge("predict", demo.folder, pictures[0]).stdout.count("%") == 5


@pytest.mark.parametrize("content", [None, b"", b"not a picture", b"\x89PNG\r\n\x1a\n and then nothing"])
def test_a_picture_that_cannot_be_read_is_named(
    evit_edge: Run, demo: Artifact, tmp_path: Path, content: bytes | None
) -> None:
    picture = tmp_path / "picture.png"
    if content is not None:
        picture.write_bytes(content)
    done = evit_edge("predict", demo.folder, picture)
    assert done.returncode == 3
    assert str(picture) in one_line(done.stderr)


def test_a_truncated_jpeg_is_named(evit_edge: Run, demo: Artifact, tmp_path: Path) -> None:
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(whole, "JPEG")
    picture = tmp_path / "half.jpg"
    picture.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    done = evit_edge("predict", demo.folder, picture)
    assert done.returncode == 3
    assert str(picture) in one_line(done.stderr)


def test_bench_keeps_raw_nanoseconds_and_reports_them_in_every_format(evit_edge: Run, results: Path) -> None:
    records = [json.loads(line) for line in results.read_text().splitlines()]
    assert [record["runtime"] for record in records] == ["torch", "onnxruntime"]
    assert all(len(record["trials"]) == 6 for record in records)
    assert all(record["trials"][0]["timing"]["samples_ns"] for record in records)
    rows = json.loads(evit_edge("report", results, "--json").stdout)
    for row in rows:
        assert row["latency_low_ms"] <= row["latency_ms"] <= row["latency_high_ms"]
    table = list(csv.DictReader(io.StringIO(evit_edge("report", results, "--format", "csv").stdout)))
    assert [row["runtime"] for row in table] == ["torch", "onnxruntime"]
    markdown = evit_edge("report", results, "--format", "markdown").stdout
    assert len(markdown.splitlines()) == 4
    terminal = evit_edge("report", results).stdout
    assert re.search(r"onnxruntime.*\d+\.\d+ \[", terminal)


def test_bench_refuses_a_place_for_results_before_it_measures(evit_edge: Run, demo: Artifact, tmp_path: Path) -> None:
    foreign = tmp_path / "notes.txt"
    foreign.write_text("not results\n")
    done = evit_edge("bench", demo.folder, "--out", foreign, timeout=20)
    assert done.returncode == 3
    assert str(foreign) in one_line(done.stderr)
    assert foreign.read_text() == "not results\n"
    assert evit_edge("bench", demo.folder, "--out", "/no/such/folder/results.jsonl", timeout=20).returncode == 3


def test_a_batch_that_the_file_does_not_have_is_a_row_with_its_reason(
    evit_edge: Run, demo: Artifact, tmp_path: Path
) -> None:
    done = evit_edge("bench", demo.folder, "--batch", "4", "--effort", "quick", "--out", tmp_path / "r.jsonl", "--json")
    (row,) = json.loads(done.stdout)
    assert row["status"] == "failed"
    assert "batch" in row["reason"]
    assert done.returncode != 0


def test_doctor_names_every_target_and_runtime(evit_edge: Run) -> None:
    subjects = {row["subject"]: row for row in json.loads(evit_edge("doctor", "--json").stdout)}
    assert subjects["target onnx"]["state"] == "ok"
    assert subjects["runtime torch"]["state"] == "ok"
    assert "cache" in subjects
    assert "target onnx" in evit_edge("doctor").stdout
