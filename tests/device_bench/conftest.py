"""Small artifacts made by hand: real ONNX files with a manifest, without the converters."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evit_edge.converters.artifact import (
    Artifact,
    Manifest,
    ModelRecord,
    ParityRecord,
    ParityRow,
    PreprocessRecord,
    TensorRecord,
    digests_of,
    read,
    write_manifest,
)
from evit_edge.device_bench.device import DeviceInfo
from evit_edge.device_bench.record import Memory, Timing
from evit_edge.device_bench.result import Parity, Result, Trial

SIZE = 8
CLASSES = 10
WEIGHTS = np.random.default_rng(0).standard_normal((3 * SIZE * SIZE, CLASSES)).astype(np.float32)

PREPROCESS = PreprocessRecord(size=SIZE, resize=SIZE, mean=(0, 0, 0), std=(1, 1, 1), interpolation="bicubic")
LINEAR = ModelRecord(
    name="linear",
    weights="seeded",
    img_size=SIZE,
    num_classes=CLASSES,
    weights_sha256="1" * 64,
    digest="2" * 64,
    labels=None,
    preprocess=PREPROCESS,
    licence="Apache-2.0",
)
DEVICE = DeviceInfo(
    device="local",
    cpu="Some CPU",
    logical_cpus=2,
    memory_bytes=8 * 2**30,
    os="Some OS 1",
    kernel="Linux 6.1",
    python="3.11.7",
    governor=None,
    frequency_mhz=None,
    virtualised=True,
    load_average=(0.1, 0.2, 0.3),
    versions={"onnxruntime": "1.2.3", "torch": "2.3.4", "numpy": "1.26.4"},
)

MakeArtifact = Callable[..., Artifact]
MakeResult = Callable[..., Result]


def save_model(path: Path, *, batch: int | None) -> None:
    """logits = flatten(pixels) @ WEIGHTS and probabilities = softmax(logits), in this order in the file."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    shape = (batch or "n", 3, SIZE, SIZE)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["pixels"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"]),
        ],
        "linear",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, (batch or "n", CLASSES))
            for name in ("logits", "probabilities")
        ],
        [numpy_helper.from_array(WEIGHTS, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def manifest(folder: Path, *, batch: int | None, **changes: Any) -> Manifest:
    row: dict[str, Any] = {
        "count": 4,
        "max_abs": 1e-6,
        "relative_l2": 1e-6,
        "sqnr_db": 120.0,
        "top5": 1.0,
        "worst_index": 0,
    }
    rows = (
        ParityRow(inputs="images", cosine=0.9999999, top1=1.0, passed=True, **row),
        ParityRow(inputs="noise", cosine=0.9999991, top1=0.5, passed=True, **row),
    )
    known: dict[str, Any] = {
        "key": "3" * 64,
        "model": LINEAR,
        "target": "onnx",
        "precision": "fp32",
        "precision_found": "fp32",
        "options": {},
        "inputs": (TensorRecord(name="pixels", shape=(batch, 3, SIZE, SIZE), dtype="float32"),),
        # Not the file's order: the manifest's is the one that counts.
        "outputs": tuple(
            TensorRecord(name=name, shape=(batch, CLASSES), dtype="float32") for name in ("probabilities", "logits")
        ),
        "payload": "model.onnx",
        "files": digests_of(folder),
        "versions": {},
        "created": "2025-01-01T00:00:00Z",
        "parity": ParityRecord(engine="onnxruntime", passed=True, rows=rows),
    }
    return Manifest(**known | changes)


@pytest.fixture
def make_artifact(tmp_path: Path) -> MakeArtifact:
    """Make a folder with a model of the given batch (None is dynamic) and a manifest with the given changes."""

    def make(
        name: str = "linear", *, batch: int | None = None, payload: bytes | None = None, **changes: Any
    ) -> Artifact:
        folder = tmp_path / name
        folder.mkdir()
        save_model(folder / "model.onnx", batch=batch)
        if payload is not None:
            (folder / "model.onnx").write_bytes(payload)
        write_manifest(folder, manifest(folder, batch=batch, **changes))
        return read(folder)

    return make


@pytest.fixture
def make_tflite(tmp_path: Path) -> MakeArtifact:
    """Make an artifact of the target tflite from the bytes of its file and the records of its tensors."""

    def make(content: bytes, *, inputs: Sequence[TensorRecord], outputs: Sequence[TensorRecord]) -> Artifact:
        folder = tmp_path / "tflite"
        folder.mkdir()
        (folder / "model.tflite").write_bytes(content)
        known = {"target": "tflite", "payload": "model.tflite", "inputs": tuple(inputs), "outputs": tuple(outputs)}
        write_manifest(folder, manifest(folder, batch=None, **known))
        return read(folder)

    return make


def make_trial(number: int = 0, **changes: Any) -> Trial:
    timing: dict[str, Any] = {
        "inputs": "noise",
        "load_ns": 30_000_000,
        "first_ns": 6_000_000,
        "warm_up_ns": (3_000_000, 2_000_000),
        "warm_up_converged": True,
        "block": 1,
        "samples_ns": (2_000_000, 2_000_000, 2_100_000),
    }
    return Trial(round=number, order=0, timing=Timing(**timing | changes))


@pytest.fixture
def make_result() -> MakeResult:
    """A result of six processes, with the given changes."""

    def make(**changes: Any) -> Result:
        known: dict[str, Any] = {
            "session": "s",
            "started": datetime(2025, 1, 2, tzinfo=UTC),
            "command": ("evit-edge", "bench"),
            "seed": 0,
            "effort": "quick",
            "device": DEVICE,
            "model": "linear",
            "weights": "seeded",
            "model_digest": "2" * 64,
            "target": "onnx",
            "precision": "fp32",
            "artifact_digest": "4" * 64,
            "size_bytes": 2**20,
            "parity": Parity(engine="onnxruntime", passed=True, cosine=0.99999991, top1=1.0),
            "runtime": "onnxruntime",
            "threads": 1,
            "batch": 1,
            "trials": tuple(make_trial(number) for number in range(6)),
            "memory": Memory(before_bytes=60 * 2**20, peak_bytes=100 * 2**20),
            "failure": None,
        }
        return Result(**known | changes)

    return make


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go: its path is in the command line of every trial of this test and of no other."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def in_each_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have every Python that starts from now on run the given code first: an engine that misbehaves."""

    def arrange(code: str) -> None:
        folder = tmp_path / "site"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))

    return arrange


def processes_naming(text: object) -> list[int]:
    """The processes, but for this one, with `text` in their command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            named = os.fsencode(str(text)) in (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if named and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@contextmanager
def meanwhile(action: Callable[[], None]) -> Iterator[None]:
    """Do `action` at the same time, and wait for its end."""
    thread = threading.Thread(target=action)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@contextmanager
def interrupted_when(condition: Callable[[], bool]) -> Iterator[None]:
    """Ctrl-C in this process as soon as `condition` holds."""

    def press() -> None:
        wait_until(condition)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with meanwhile(press):
        yield
