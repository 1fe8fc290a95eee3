"""`evit-edge eval` as a user meets it: on the demo's held-out digits, and where it can be found, on CIFAR-10."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from evit_edge.converters.artifact import Artifact
from evit_edge.models.sample_images import digits

Run = Callable[..., "subprocess.CompletedProcess[str]"]

COUNT = 96
WRONG = 6
SHARED = Path(__file__).resolve().parents[3] / "shared"
WEIGHTS = SHARED / "weights" / "efficientvit_m0_cifar10_96px.safetensors"
CIFAR = {part: SHARED / "data" / f"cifar10_{part}.npz" for part in ("calibration", "validation")}


@pytest.fixture(scope="module")
def held_out(demo: Artifact) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Digits that the demo model has right, with the labels of some made wrong."""
    images, labels = digits("held_out", demo.manifest.model.preprocess.value())
    labels = labels[:COUNT].copy()
    labels[:WRONG] = (labels[:WRONG] + 1) % 10
    return images[:COUNT], labels


@pytest.fixture(scope="module")
def archive(held_out: tuple[NDArray[np.uint8], NDArray[np.int64]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez_compressed(path, images=held_out[0], labels=held_out[1])
    return path


def one_line(stderr: str) -> str:
    (line,) = [line for line in stderr.splitlines() if line.strip()]
    return line


def test_every_artifact_and_the_original_are_counted_on_the_same_images(
    evit_edge: Run, demo: Artifact, demo_tflite: Artifact, demo_int8: Artifact, archive: Path
) -> None:
    artifacts = [demo.folder, demo_tflite.folder, demo_int8.folder]
    done = evit_edge("eval", *artifacts, "--data", archive, "--json", "--max-drop", "2")
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert answer["data"]["count"] == COUNT
    rows = answer["rows"]
    assert [(row["target"], row["precision"], row["runtime"]) for row in rows] == [
        ("original", "fp32", "torch"),
        ("onnx", "fp32", "onnxruntime"),
        ("tflite", "fp32", "litert"),
        ("tflite", "int8", "litert"),
    ]
    assert [row["artifact"] for row in rows] == [None, *map(str, artifacts)]
    for row in rows:
        assert row["failure"] is None
        assert abs(row["top1"]["right"] - (COUNT - WRONG)) <= 1
        assert row["top1"]["low"] < row["top1"]["share"] < row["top1"]["high"]
        assert row["top1"]["right"] <= row["top5"]["right"] <= COUNT
    assert rows[0]["against_original"] is None
    for row in rows[1:3]:
        assert row["against_original"] == {"lost": 0, "gained": 0, "p": 1.0, "agreeing": COUNT, "points": 0.0}


def test_a_folder_of_classes_says_the_same_as_an_archive(
    evit_edge: Run,
    demo: Artifact,
    archive: Path,
    held_out: tuple[NDArray[np.uint8], NDArray[np.int64]],
    tmp_path: Path,
) -> None:
    for index, (image, label) in enumerate(zip(*held_out, strict=True)):
        folder = tmp_path / "pictures" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index:03}.png")
    found = []
    for data in (tmp_path / "pictures", archive):
        done = evit_edge("eval", demo.folder, "--data", data, "--no-original", "--json")
        (row,) = json.loads(done.stdout)["rows"]
        found.append((row["top1"], row["top5"], row["against_original"]))
    assert found[0] == found[1]


def test_the_table_has_a_row_for_each_and_says_what_it_means(
    evit_edge: Run, demo: Artifact, archive: Path, tmp_path: Path
) -> None:
    resume = tmp_path / "answers.jsonl"
    arguments = ["eval", demo.folder, "--data", archive, "--limit", "32", "--resume", resume]
    done = evit_edge(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("81.25 [64.69, 91.11]") == 2
    assert "100.00" in done.stdout
    assert "McNemar" in done.stdout
    kept = resume.read_bytes()
    assert evit_edge(*arguments).stdout == done.stdout
    assert resume.read_bytes() == kept


def test_a_second_run_notes_answers_that_do_not_count(
    evit_edge: Run, demo: Artifact, archive: Path, tmp_path: Path
) -> None:
    resume = tmp_path / "answers.jsonl"
    evit_edge("eval", demo.folder, "--data", archive, "--limit", "4", "--no-original", "--resume", resume)
    np.savez(tmp_path / "other.npz", images=np.zeros((2, 8, 8, 3), np.uint8), labels=[0, 1])
    arguments = ["--data", tmp_path / "other.npz", "--no-original", "--resume", resume, "--json"]
    done = evit_edge("eval", demo.folder, *arguments)
    assert "answers of 1 other" in one_line(done.stderr)
    assert json.loads(done.stdout)["rows"][0]["top1"]["count"] == 2
    assert len(resume.read_text().splitlines()) == 2


def spoiled(file: Path) -> None:
    """Kept answers that say of every image of an artifact that nothing came out."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        if line["question"]["artifact"]:
            line["top"] = [[] for _ in line["top"]]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_drop_over_the_limit_ends_with_8_and_is_named(
    evit_edge: Run, demo: Artifact, archive: Path, tmp_path: Path
) -> None:
    resume = tmp_path / "answers.jsonl"
    arguments = ["eval", demo.folder, "--data", archive, "--limit", "20", "--resume", resume, "--json"]
    assert evit_edge(*arguments, "--max-drop", "0").returncode == 0
    spoiled(resume)
    done = evit_edge(*arguments, "--max-drop", "0.5")
    assert done.returncode == 8
    line = one_line(done.stderr)
    assert line.startswith("error: ")
    assert str(demo.folder) in line
    assert "lost 70.00 points of top-1, more than the 0.5 that are allowed" in line
    paired = json.loads(done.stdout)["rows"][1]["against_original"]
    assert (paired["lost"], paired["gained"], paired["agreeing"]) == (14, 0, 0)
    assert paired["p"] == pytest.approx(2 / 2**14)
    assert evit_edge(*arguments, "--max-drop", "70").returncode == 0
    assert evit_edge(*arguments).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--data", "/no/such/data"], 3, "/no/such/data"),
        (["--data", "unlabelled.npz"], 3, "gives no labels"),
        (["--data", "beyond.npz"], 3, "label 10 is none of the model's 10 classes"),
        (["--data", "empty"], 3, "empty"),
        (["--data", "broken"], 3, "0.png is not a picture"),
        (["--data", "good.npz", "--runtime", "litert"], 2, "litert does not open it"),
        (["--data", "good.npz", "--runtime", "onnxruntim"], 2, "did you mean onnxruntime"),
        (["--data", "good.npz", "--resume", "beyond.npz"], 3, "holds no answers"),
        (["--data", "good.npz", "--resume", "/no/such/folder/a.jsonl"], 3, "/no/such/folder/a.jsonl"),
    ],
)
def test_a_mistake_is_one_line_with_the_documented_exit_code(
    evit_edge: Run, demo: Artifact, tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    images = np.zeros((1, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "good.npz", images=images, labels=[0])
    np.savez(tmp_path / "unlabelled.npz", images=images)
    np.savez(tmp_path / "beyond.npz", images=images, labels=[10])
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken" / "0").mkdir(parents=True)
    (tmp_path / "broken" / "0" / "0.png").write_bytes(b"no picture")
    done = evit_edge("eval", demo.folder, *arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    line = one_line(done.stderr)
    assert line.startswith("error: ")
    assert says in line
    assert done.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--data", "x", "--limit", "0"],
        ["--data", "x", "--max-drop", "-1"],
        ["--data", "x", "--max-drop", "1", "--no-original"],
    ],
)
def test_wrong_usage_ends_with_2(evit_edge: Run, demo: Artifact, arguments: list[str]) -> None:
    done = evit_edge("eval", demo.folder, *arguments)
    assert done.returncode == 2
    assert "Usage: evit-edge" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_whatever_ends_it_the_answers_so_far_are_gone_on_with(
    evit_edge: Run, demo: Artifact, archive: Path, tmp_path: Path, number: signal.Signals
) -> None:
    resume = tmp_path / "answers.jsonl"
    arguments = ["eval", str(demo.folder), "--data", str(archive), "--runtime", "onnxruntime", "--resume", str(resume)]
    process = subprocess.Popen(
        [sys.executable, "-m", "evit_edge", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (resume.exists() and resume.stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert (process.returncode, stderr.strip()) == (130, "interrupted")
    # A child that lost its parent ends on its own.
    time.sleep(1)
    before = resume.read_bytes()
    done = evit_edge(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    assert resume.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    assert [row["top1"]["count"] for row in json.loads(done.stdout)["rows"]] == [COUNT, COUNT]


def test_core_ml_is_counted_by_the_reference_executor(evit_edge: Run, demo_coreml: Artifact, archive: Path) -> None:
    done = evit_edge("eval", demo_coreml.folder, "--data", archive, "--limit", "16", "--json")
    _, row = json.loads(done.stdout)["rows"]
    assert "reference" in row["runtime"]
    assert row["against_original"]["agreeing"] == 16


@pytest.mark.slow
@pytest.mark.skipif(
    not all(path.exists() for path in (WEIGHTS, *CIFAR.values())), reason=f"needs weights and images in {SHARED}"
)
def test_int8_of_a_model_trained_on_cifar10_loses_less_than_half_a_point(evit_edge: Run, tmp_path: Path) -> None:
    options = ["--weights", WEIGHTS, "--parity-images", "8", "--out", tmp_path, "--json"]
    quantized = ["--target", "tflite", "--precision", "int8", "--calibrate", CIFAR["calibration"]]
    folders = []
    for target in (["--target", "onnx"], quantized):
        done = evit_edge("convert", "efficientvit_m0", *options, *target)
        folders += [answer["folder"] for answer in json.loads(done.stdout)]
    done = evit_edge("eval", *folders, "--data", CIFAR["validation"], "--max-drop", "0.5", "--json")
    assert done.returncode == 0, done.stderr
    original, fp32, int8 = json.loads(done.stdout)["rows"]
    # 66.2 % on the test set, by whoever trained it; three standard errors of a share of 4,000.
    assert original["top1"]["share"] == pytest.approx(0.662, abs=0.023)
    assert fp32["against_original"]["agreeing"] >= 3996
    assert int8["against_original"]["agreeing"] >= 0.96 * 4000
