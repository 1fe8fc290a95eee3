"""Core ML's engines: the reference executor on real packages, and what a Mac's would be given and give."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from evit_edge.converters import tensors
from evit_edge.converters.artifact import Artifact
from evit_edge.converters.coreml.executor import LABEL, Executor
from evit_edge.converters.coreml.program import load
from evit_edge.device_bench import coreml_session
from evit_edge.device_bench.coreml_session import CoremlSession
from evit_edge.device_bench.device import connect
from evit_edge.device_bench.job import MemoryJob, TimeJob, ask
from evit_edge.device_bench.record import Memory, Timing
from evit_edge.device_bench.session import RUNTIMES, Runtime, Tracing, called, default_runtime, execute
from evit_edge.device_bench.standalone import opened
from evit_edge.models.errors import BadArtifact, MissingDependency, Unsupported
from evit_edge.models.spec import ModelSpec, TensorSpec

from ..converters.coreml import tiny

UNITS = ("coreml", "coreml_cpu", "coreml_gpu", "coreml_ne")
REFERENCE = "coreml_reference"
PIXELS = tiny.spec().sample_pixels(6)
IMAGES = tiny.PREPROCESS.normalise(PIXELS)

Open = Callable[..., Artifact]


def twins() -> ModelSpec:
    """The outputs of a file in another order than that of the model would be noticed."""
    outputs = tuple(TensorSpec(name=name, shape=(None, size)) for name, size in (("zwei", 5), ("eins", 2)))
    return tiny.spec(build=tiny.Twins, outputs=outputs)


FORMS: dict[str, dict[str, Any]] = {
    "tensor": {},
    "image": {"input": "image"},
    "classifier": {"output": "classifier"},
    "image to label": {"input": "image", "output": "classifier"},
    "two outputs": {"of": twins()},
    "any batch": {"batch": None},
    "batch 4": {"batch": 4},
}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    """Packages in float32 as artifacts, by their form."""
    known: dict[str, Artifact] = {}
    with ExitStack() as stack:

        def open_(form: str) -> Artifact:
            if form not in known:
                path = tiny.written(tiny.planned("fp32", **FORMS[form]), tmp_path_factory.mktemp("package"))
                known[form] = stack.enter_context(opened(path))
            return known[form]

        yield open_


@pytest.fixture(autouse=True)
def threads_kept() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def logits() -> np.ndarray[Any, np.dtype[np.float32]]:
    return tiny.answers(tiny.spec(), IMAGES)


def fed(artifact: Artifact, count: int = 1) -> dict[str, Any]:
    """Images as the file takes them."""
    (record,) = artifact.manifest.inputs
    return {record.name: tensors.to_file(record, IMAGES[:count])}


def test_one_checks_everywhere_and_the_others_are_timed_on_a_mac() -> None:
    assert default_runtime("coreml") == REFERENCE
    assert default_runtime("coreml", timed=True) == "coreml"
    opening = [name for name in RUNTIMES.names() if RUNTIMES.load(name).opens("coreml")]
    assert opening == sorted([*UNITS, REFERENCE, "torch", "torch_compiled"])
    assert called(REFERENCE) == LABEL == "reference executor, not Apple hardware"
    assert [RUNTIMES.load(name).timed for name in (*UNITS, REFERENCE)] == [True] * 4 + [False]
    assert not [name for name in (*UNITS, REFERENCE) if RUNTIMES.load(name).opens("onnx")]


def test_it_runs_in_a_process_of_its_own(artifact: Open) -> None:
    (found,) = execute(artifact("batch 4").folder, {"image": IMAGES}, runtime=REFERENCE)
    np.testing.assert_allclose(found, logits(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["tensor", "image", "any batch"])
def test_the_session_gives_the_models_own_answers(artifact: Open, form: str) -> None:
    made = artifact(form)
    session = RUNTIMES.load(REFERENCE).open(made, threads=1)
    (found,) = session.run(fed(made))
    session.close()
    np.testing.assert_allclose(found, logits()[:1], rtol=1e-4, atol=1e-5)


def test_labels_come_back_as_logits_up_to_a_constant(artifact: Open) -> None:
    (found,) = execute(artifact("image to label").folder, {"image": IMAGES})
    off = found - logits()
    np.testing.assert_allclose(off, off.mean(1, keepdims=True).repeat(5, 1), atol=1e-4)
    np.testing.assert_allclose(tensors.softmax(found), tensors.softmax(logits()), atol=1e-5)


@pytest.mark.parametrize("job", [TimeJob, MemoryJob])
def test_it_is_not_timed(artifact: Open, job: Any) -> None:
    known = {"artifact": str(artifact("tensor").folder), "runtime": REFERENCE, "threads": 1, "batch": 1, "seed": 0}
    question = job(**known, **({"effort": "quick"} if job is TimeJob else {}))
    with pytest.raises(Unsupported, match="coreml_reference is not timed") as caught:
        ask(connect("local"), question, answer=Timing if job is TimeJob else Memory, timeout_s=60)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML is there")
@pytest.mark.parametrize("name", UNITS)
def test_without_a_mac_there_is_no_core_ml_and_what_there_is_is_named(artifact: Open, name: str) -> None:
    with pytest.raises(MissingDependency, match="Core ML predicts on macOS alone") as caught:
        RUNTIMES.load(name).open(artifact("tensor"), threads=1)
    assert caught.value.exit_code == 3
    (named,) = re.findall(r"--runtime (\S+)", caught.value.hint)
    assert RUNTIMES.load(named) is RUNTIMES.load(REFERENCE)


def test_a_trace_is_of_the_models_inputs_whatever_the_file_takes(artifact: Open) -> None:
    runtime = RUNTIMES.load(REFERENCE)
    assert isinstance(runtime, Tracing)
    assert not isinstance(RUNTIMES.load("coreml"), Tracing)
    steps = {form: runtime.trace(artifact(form), {"image": IMAGES[:2]}) for form in ("tensor", "batch 4", "image")}
    largest = {form: found[-1].largest for form, found in steps.items()}
    assert largest["tensor"] == pytest.approx(np.abs(logits()[:2]).max(), rel=1e-4)
    assert largest["batch 4"] == pytest.approx(largest["tensor"], rel=1e-4)
    assert largest["image"] == pytest.approx(largest["tensor"], rel=1e-4)


class StandIn:
    """What `MLModel.predict` would do on a Mac: arrays or pictures in, arrays or a label and a dictionary out."""

    def __init__(self, path: Path) -> None:
        self.executor = Executor(load(path))
        self.taken: list[type] = []

    def predict(self, data: Mapping[str, Any]) -> dict[str, Any]:
        feeds = {}
        for name, value in data.items():
            self.taken.append(type(value))
            if isinstance(value, Image.Image):
                assert value.mode == "RGB"
                feeds[name] = np.asarray(value)[None]
            else:
                assert value.dtype == np.float32
                feeds[name] = value
        answers = self.executor.run(feeds)
        # In no particular order, a dictionary's neither.
        return {name: self._given(answers[name]) for name in sorted(answers)}

    def _given(self, value: Any) -> Any:
        if isinstance(value, dict):
            return dict(sorted(value.items()))
        return value.numpy().astype(np.float32) if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize("form", FORMS)
def test_core_ml_gives_what_the_reference_gives_in_the_manifests_order(artifact: Open, form: str) -> None:
    made, engine = artifact(form), StandIn(artifact(form).payload)
    feeds = fed(made, 4 if form == "batch 4" else 1)
    found = CoremlSession(engine, made).run(feeds)
    wanted = RUNTIMES.load(REFERENCE).open(made, threads=1).run(feeds)
    assert [part.shape for part in found] == [part.shape for part in wanted]
    assert len(found) == len(made.manifest.outputs)
    for left, right in zip(found, wanted, strict=True):
        assert left.dtype == np.float32
        np.testing.assert_array_equal(left, right)
    assert engine.taken == [Image.Image if "image" in form else np.ndarray]


class Failing:
    """An engine that answers as Apple's does: with a text of several lines, or none."""

    def __init__(self, text: str) -> None:
        self.text = text

    def predict(self, data: Mapping[str, Any]) -> dict[str, Any]:
        raise RuntimeError(self.text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("\n{\n NSLocalizedDescription = x;\n}", "Core ML does not run: {"),
        ("Error computing NN outputs.\nmore", "Core ML does not run: Error computing NN outputs."),
        ("", "Core ML does not run: RuntimeError"),
    ],
)
def test_what_the_engine_refuses_is_one_line(artifact: Open, text: str, says: str) -> None:
    with pytest.raises(BadArtifact) as caught:
        CoremlSession(Failing(text), artifact("tensor")).run(fed(artifact("tensor")))
    assert caught.value.message == says


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """As if Core ML were here; what it is asked to open is in the list."""
    asked: list[tuple[str, str]] = []

    class Toolkit:
        class ComputeUnit:
            def __class_getitem__(cls, name: str) -> str:
                return name

        class models:  # noqa: N801
            @staticmethod
            def MLModel(path: str, *, compute_units: str) -> StandIn:  # noqa: N802
                asked.append((path, compute_units))
                if "broken" in path:
                    raise RuntimeError("Error compiling model:\nfull of detail")
                return StandIn(Path(path))

    monkeypatch.setattr(coreml_session, "coremltools", lambda: Toolkit)
    monkeypatch.setattr(sys, "platform", "darwin")
    return asked


@pytest.mark.parametrize(
    ("name", "units"),
    [("coreml", "ALL"), ("coreml_cpu", "CPU_ONLY"), ("coreml_gpu", "CPU_AND_GPU"), ("coreml_ne", "CPU_AND_NE")],
)
def test_each_runtime_has_its_compute_units(artifact: Open, mac: list[tuple[str, str]], name: str, units: str) -> None:
    made = artifact("tensor")
    runtime: Runtime = RUNTIMES.load(name)
    session = runtime.open(made, threads=1)
    assert mac == [(str(made.payload), units)]
    np.testing.assert_allclose(session.run(fed(made))[0], logits()[:1], rtol=1e-4, atol=1e-5)
    session.close()


def test_a_package_that_does_not_compile_is_named_in_one_line(
    artifact: Open, mac: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Artifact, "payload", Path("broken.mlpackage"))
    with pytest.raises(BadArtifact) as caught:
        RUNTIMES.load("coreml").open(artifact("tensor"), threads=1)
    assert caught.value.message == "Core ML does not open broken.mlpackage: Error compiling model:"
    assert len(mac) == 1
