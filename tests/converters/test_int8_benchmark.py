"""The int8 benchmark: its figures are right, its plain recipes are those of others, and a run goes from end to end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from evit_edge.converters import calibration
from evit_edge.converters.inspection import look
from evit_edge.models.spec import ModelRequest

from .coreml.tiny import answers, images, spec

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def parts() -> Iterator[Any]:
    """The benchmark's modules, which lie beside a script."""
    names = ("convert", "engines", "files", "measure", "memory", "tables")
    sys.path.insert(0, str(BENCHMARKS))
    yield SimpleNamespace(**{name: import_module(f"int8_parts.{name}") for name in names})
    sys.path.remove(str(BENCHMARKS))


def trials(*ratios: float) -> list[dict[str, Any]]:
    """Of int8 over a float file that takes 2 ms."""
    return [{"medians_ns": {"fp32": 2e6, "int8": 2e6 * ratio}, "load_average": 1.0} for ratio in ratios]


def model(**timed: list[dict[str, Any]]) -> dict[str, Any]:
    return {"files": [], "trials": timed}


def said(parts: Any, *ratios: float) -> str:
    (line,) = parts.tables.verdicts(model(onnx=trials(*ratios)))
    return str(line)


def test_answers_are_compared_over_all_images(parts: Any) -> None:
    original = np.array([[30, 0], [40, 0], [0, 0], [0, 10]], np.float32)
    found = original + np.array([[0, 3], [4, 0], [0, 1], [0, 0]], np.float32)
    labels = np.array([0, 0, 1, 0])
    known = parts.measure.compared(found, original, labels)
    # Signal 900 + 1600 + 100, noise 9 + 16 + 1.
    assert known["sqnr_db"] == pytest.approx(20)
    assert known["agreement"] == 0.75
    assert (known["top1"]["right"], known["top1"]["count"]) == (3, 4)
    assert known["top1"]["low"] < 0.75 < known["top1"]["high"]
    assert known["points"] == 25
    assert known["p"] == 1


def test_without_labels_there_is_no_accuracy(parts: Any) -> None:
    logits = np.eye(3, dtype=np.float32)
    assert parts.measure.compared(logits, logits, None) == {"sqnr_db": np.inf, "agreement": 1.0}


def test_a_ratio_is_the_median_over_processes_with_its_exact_interval(parts: Any) -> None:
    found = parts.measure.ratio(trials(1.2, 1.0, 1.4, 1.1, 1.3, 1.5, 1.25), "int8")
    assert found["median"] == pytest.approx(1.25)
    assert found["interval"]["low"] == pytest.approx(1.0)
    assert found["interval"]["high"] == pytest.approx(1.5)
    assert parts.measure.ratio(trials(1.2, 1.0), "int8")["interval"] is None
    assert parts.measure.ratio(trials(1.2, 1.0), "mixed") is None


def test_words_say_whether_int8_is_slower_here(parts: Any) -> None:
    slower = said(parts, 1.05, 1.08, 1.10, 1.10, 1.12, 1.20)
    assert re.fullmatch(r"onnx int8 is SLOWER than fp32 on this CPU, by 10 % \(1\.100 \(1\.050…1\.200\)\)", slower)
    assert "is faster than fp32 on this CPU, by 50 %" in said(parts, 0.4, 0.5, 0.5, 0.5, 0.5, 0.6)
    assert "as far as can be told" in said(parts, 0.9, 0.9, 1.0, 1.0, 1.1, 1.1)


def test_what_one_answer_for_all_images_would_score_is_known(parts: Any) -> None:
    assert parts.measure.constant_db(np.array([[3.0, 1.0], [3.0, -1.0]])) == pytest.approx(10.0)
    assert parts.measure.constant_db(np.ones((4, 3))) == np.inf


def test_bars_that_are_missed_are_said_to_be_missed(parts: Any) -> None:
    def row(precision: str, size_bytes: int, **known: float) -> dict[str, Any]:
        entry = {"target": "onnx", "name": precision, "recipe": "ours", "precision": precision}
        return {"entry": entry, "size_bytes": size_bytes, "int8_share": 0.95, **known}

    rows = [row("fp32", 1000), row("int8", 321, sqnr_db=19.9)]
    found = parts.tables.bars({"files": rows, "original": {"model": "efficientvit_m0", "weights": "random"}})
    assert found == [
        ["efficientvit_m0, random", "onnx int8: SQNR, dB", "≥ 20", "19.9", "missed"],
        ["efficientvit_m0, random", "onnx int8: size / fp32", "≤ 0.32", "0.321", "missed"],
    ]


def test_the_bar_of_memory_looks_at_the_worst_method(parts: Any) -> None:
    def row(method: str, count: int, peak_bytes: int) -> dict[str, Any]:
        return {"target": "onnx", "method": method, "count": count, "peak_bytes": peak_bytes}

    rows = [
        row("minmax", 20, 10**9),
        row("minmax", 2000, 10**9 + 1),
        row("mse", 20, 10**9),
        row("mse", 2000, 3 * 10**9),
    ]
    ((_, what, _, found, verdict),) = parts.tables.memory_bars(rows)
    assert (what, found, verdict) == ("memory, MB more, worst of 2", "2000", "missed")
    assert parts.tables.memory_bars([*rows[:1], {**rows[1], "missing": "it died"}]) == []


def test_noise_is_an_archive_that_calibration_reads(parts: Any, tmp_path: Path) -> None:
    path = tmp_path / "noise.npz"
    parts.memory.save_noise(path, 5, size=8)
    found = np.stack(list(calibration.archived(path)))
    assert found.shape == (5, 8, 8, 3)
    assert len({image.tobytes() for image in found}) == 5
    assert calibration.choose(path, 20).count == 5


def test_a_precision_that_a_target_lacks_is_a_row_with_its_reason(parts: Any, tmp_path: Path) -> None:
    own = parts.files.Images(
        request=ModelRequest(name="efficientvit_m0", weights="random"),
        calibrate=None,
        calibration_images=4,
        data=None,
        data_sha256="samples",
        count=4,
    )
    entry = parts.files.Entry(target="onnx", name="pal8", label="ours pal8", precision="pal8")
    assert parts.files.make(entry, own, tmp_path / "files") == {"missing": "onnx has no precision 'pal8'"}
    assert not (tmp_path / "files").exists()


def test_every_file_has_a_name_of_its_own(parts: Any) -> None:
    found = parts.files.entries(["onnx", "tflite", "coreml"], ["w8", "int8", "mixed"], plain=True)
    assert len({entry.file for entry in found}) == len(found) == 19
    assert not [entry for entry in parts.files.entries(["onnx"], ["int8"], plain=False) if entry.recipe != "ours"]


def written(parts: Any, target: str, name: str, folder: Path) -> tuple[float, float]:
    """A plain recipe's SQNR on the small network, in dB, and the share of its MACs in int8."""
    (entry,) = (entry for entry in parts.files.PLAIN if (entry.target, entry.name) == (target, name))
    own = spec()
    out = folder / entry.file
    job = {"calibrate": None, "images": 16, **entry.told}
    parts.convert.RECIPES[entry.recipe](own.build(), own, job, out)
    engine, found, feeds = parts.engines.opened(out), [], images(own, 8)
    for image in feeds:
        engine.feed(image[None])
        engine.invoke()
        found.append(engine.answer().copy())
    known = parts.measure.compared(np.concatenate(found), answers(own, feeds), None)
    return known["sqnr_db"], look(out).inspection.int8_share


@pytest.mark.parametrize("name", ["ort_defaults", "ort_tutorial"])
@pytest.mark.filterwarnings("ignore")
def test_quantize_static_writes_an_int8_file_that_runs(parts: Any, name: str, tmp_path: Path) -> None:
    sqnr_db, share = written(parts, "onnx", name, tmp_path)
    assert 15 < sqnr_db < 60
    assert share > 0.9


@pytest.mark.filterwarnings("ignore")
def test_coremltools_writes_int8_weights_that_the_executor_runs(parts: Any, tmp_path: Path) -> None:
    sqnr_db, share = written(parts, "coreml", "coremltools_w8", tmp_path)
    assert 25 < sqnr_db < 70
    assert share == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_onnx2tf_writes_an_int8_file_that_runs(parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As a child process of the benchmark has it.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    sqnr_db, share = written(parts, "tflite", "onnx2tf_integer_quant_1", tmp_path)
    assert sqnr_db > 5
    assert share > 0.9


@pytest.mark.slow
def test_a_run_prints_files_words_and_bars_and_a_second_one_keeps_the_files(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    command = [
        sys.executable,
        str(BENCHMARKS / "int8.py"),
        "--random",
        "m0",
        "--targets",
        "onnx",
        "--work",
        str(tmp_path),
    ]
    command += ["--precisions", "int8", "--calibration", "8", "--processes", "6", "--seconds", "0.05"]
    done = subprocess.run([*command, "--json", str(found)], capture_output=True, text=True, timeout=500, check=True)
    record = json.loads(found.read_text())["models"]["random_m0"]
    assert [row["entry"]["name"] for row in record["files"]] == ["fp32", "int8"]
    assert record["files"][0]["sqnr_db"] > 60 > record["files"][1]["sqnr_db"] > 10
    assert all(
        0.3 < trial["medians_ns"]["again"] / trial["medians_ns"]["fp32"] < 3 for trial in record["trials"]["onnx"]
    )
    assert re.search(r"^ ours int8 .* \d\.\d{3} \(\d\.\d{3}…\d\.\d{3}\)", done.stdout, re.MULTILINE)
    assert re.search(r"^efficientvit_m0, random: onnx int8 (is|takes) ", done.stdout, re.MULTILINE)
    assert re.search(r"onnx int8: size / fp32 +≤ 0\.32 ", done.stdout)
    again = subprocess.run([*command, "--processes", "0"], capture_output=True, text=True, timeout=500, check=True)
    assert "ours int8, 32 images" in again.stderr
    assert not re.search(r"ours int8$", again.stderr, re.MULTILINE)
