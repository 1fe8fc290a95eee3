"""Artifacts run in a process of their own: any number of samples, and whatever the engine does to itself."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from evit_edge.converters.artifact import TensorRecord
from evit_edge.device_bench.session import RUNTIMES, default_runtime, execute
from evit_edge.models.errors import BadArtifact, DeviceFailed, MissingDependency, UnknownName, Unsupported

from .conftest import CLASSES, SIZE, WEIGHTS, MakeArtifact, interrupted_when, processes_naming, wait_until

Arrange = Callable[[str], None]


def pixels(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(count).standard_normal((count, 3, SIZE, SIZE), np.float32)


def logits(images: NDArray[np.float32]) -> NDArray[Any]:
    return images.reshape(len(images), -1) @ WEIGHTS


@pytest.mark.parametrize(("batch", "count"), [(None, 1), (None, 37), (1, 3), (4, 4), (4, 9), (16, 2)], ids=str)
def test_any_number_of_samples_fits_any_batch(make_artifact: MakeArtifact, batch: int | None, count: int) -> None:
    images = pixels(count)
    probabilities, found = execute(make_artifact(batch=batch).folder, {"pixels": images})
    assert found.shape == probabilities.shape == (count, CLASSES)
    np.testing.assert_allclose(found, logits(images), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)


def test_an_artifact_that_was_changed_on_disk_is_refused(make_artifact: MakeArtifact) -> None:
    artifact = make_artifact()
    with artifact.payload.open("ab") as file:
        file.write(b"x")
    with pytest.raises(BadArtifact, match="was changed"):
        execute(artifact.folder, {"pixels": pixels(1)})
    with pytest.raises(BadArtifact, match="no artifact"):
        execute(artifact.folder / "nowhere", {"pixels": pixels(1)})


def test_a_file_that_the_engine_cannot_open_is_a_bad_artifact_in_one_line(make_artifact: MakeArtifact) -> None:
    artifact = make_artifact(payload=b"this is no model")
    with pytest.raises(BadArtifact, match="onnxruntime does not open") as caught:
        execute(artifact.folder, {"pixels": pixels(1)})
    assert "\n" not in str(caught.value)


def test_inputs_that_the_engine_refuses_are_a_bad_artifact(make_artifact: MakeArtifact) -> None:
    inputs = (TensorRecord(name="pixels", shape=(None, 3, 5, 5), dtype="float32"),)
    with pytest.raises(BadArtifact, match="does not run"):
        execute(make_artifact(inputs=inputs).folder, {"pixels": np.zeros((1, 3, 5, 5), np.float32)})


def test_inputs_are_given_in_the_type_of_the_manifest(make_artifact: MakeArtifact) -> None:
    images = pixels(2)
    found = execute(make_artifact().folder, {"pixels": images.astype(np.float64)})[1]
    np.testing.assert_allclose(found, logits(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV, signal.SIGKILL], ids=lambda number: number.name)
def test_an_engine_that_crashes_is_named_with_the_signal_and_its_last_words(
    make_artifact: MakeArtifact, in_each_child: Arrange, number: signal.Signals
) -> None:
    in_each_child(f"import os, sys; print('Check failed: x > 0', file=sys.stderr); os.kill(os.getpid(), {int(number)})")
    with pytest.raises(DeviceFailed, match=f"onnxruntime was killed by {number.name}: Check failed: x > 0"):
        execute(make_artifact().folder, {"pixels": pixels(1)})


def test_a_process_that_fails_in_its_own_way_is_named_with_its_last_line(
    make_artifact: MakeArtifact, in_each_child: Arrange
) -> None:
    in_each_child("import os; print('out of luck'); os._exit(7)")
    with pytest.raises(DeviceFailed, match="ended with status 7: out of luck"):
        execute(make_artifact().folder, {"pixels": pixels(1)})


def test_a_process_that_says_nothing_is_no_success(make_artifact: MakeArtifact, in_each_child: Arrange) -> None:
    in_each_child("import os; os._exit(0)")
    with pytest.raises(DeviceFailed, match="without a proper answer"):
        execute(make_artifact().folder, {"pixels": pixels(1)})


def test_an_engine_that_hangs_is_stopped_at_the_deadline(
    make_artifact: MakeArtifact, in_each_child: Arrange, scratch: Path
) -> None:
    artifact = make_artifact()
    in_each_child("import time; time.sleep(60)")
    start = time.monotonic()
    with pytest.raises(DeviceFailed, match=r"no answer within 0\.5 s"):
        execute(artifact.folder, {"pixels": pixels(1)}, timeout_s=0.5)
    assert time.monotonic() - start < 10
    assert processes_naming(scratch) == []


def test_an_engine_that_is_not_installed_says_what_to_install(
    make_artifact: MakeArtifact, in_each_child: Arrange
) -> None:
    in_each_child("import sys; sys.modules['onnxruntime'] = None")
    with pytest.raises(MissingDependency, match="pip install onnxruntime"):
        execute(make_artifact().folder, {"pixels": pixels(1)})


def test_a_runtime_that_does_not_exist_is_answered_with_the_nearest(make_artifact: MakeArtifact) -> None:
    with pytest.raises(UnknownName, match="did you mean onnxruntime"):
        execute(make_artifact().folder, {"pixels": pixels(1)}, runtime="onnxruntim")


def test_a_runtime_for_another_target_refuses(make_artifact: MakeArtifact) -> None:
    with pytest.raises(Unsupported, match="onnxruntime does not open coreml"):
        execute(make_artifact(target="coreml").folder, {"pixels": pixels(1)}, runtime="onnxruntime")


def test_a_target_without_a_runtime_is_named() -> None:
    with pytest.raises(Unsupported, match="no runtime here opens punchcard artifacts"):
        default_runtime("punchcard")


def test_the_original_model_is_nobodys_default() -> None:
    originals = [name for name in RUNTIMES.names() if RUNTIMES.load(name).original]
    assert originals == ["torch", "torch_compiled"]
    assert RUNTIMES.load("torch").opens("onnx")
    assert default_runtime("onnx") == "onnxruntime"


def test_a_package_in_the_current_folder_does_not_stand_in_for_the_engine(
    make_artifact: MakeArtifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    assert len(execute(make_artifact().folder, {"pixels": pixels(1)})) == 2


def test_an_interruption_leaves_no_process_and_no_file(
    make_artifact: MakeArtifact, in_each_child: Arrange, scratch: Path
) -> None:
    artifact = make_artifact()
    in_each_child("import time; time.sleep(60)")
    with interrupted_when(lambda: bool(processes_naming(scratch))), pytest.raises(KeyboardInterrupt):
        execute(artifact.folder, {"pixels": pixels(1)})
    assert processes_naming(scratch) == []
    assert list(scratch.iterdir()) == []


def test_a_trial_does_not_outlive_whoever_started_it(make_artifact: MakeArtifact, tmp_path: Path) -> None:
    job = tmp_path / "job.json"
    known = {"mode": "time", "runtime": "onnxruntime", "threads": 1, "batch": 1, "seed": 0, "effort": "rigorous"}
    job.write_text(json.dumps(known | {"artifact": str(make_artifact().folder)}))
    code = (
        "import sys; from evit_edge.device_bench.on_local import LocalDevice;"
        "LocalDevice().run([sys.executable, '-m', 'evit_edge.device_bench.trial', *sys.argv[1:]], timeout_s=60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(job), str(tmp_path / "reply.json")])
    wait_until(lambda: len(processes_naming(job)) == 2)
    # Long enough for the trial to be at work, and far from the end of it.
    time.sleep(1)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    wait_until(lambda: processes_naming(job) == [], timeout_s=5)
    assert not (tmp_path / "reply.json").exists()
