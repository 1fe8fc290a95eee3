"""TFLite's interpreters, each with and without XNNPACK, on real files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evit_edge.converters.artifact import Quantization, TensorRecord
from evit_edge.device_bench import doctor
from evit_edge.device_bench.device import connect
from evit_edge.device_bench.job import TimeJob, ask
from evit_edge.device_bench.record import Placement, Timing
from evit_edge.device_bench.session import Delegating, Session, default_runtime, execute
from evit_edge.models.errors import BadArtifact, EdgeError

from .conftest import MakeArtifact
from .tflite_files import Op, Tensor, file
from .tflite_models import (
    DELEGATED,
    INPUTS,
    INT8_ROWS,
    INT8_STEP,
    NAMES,
    OUTPUTS,
    TENSORS,
    WIDE,
    WIDE_SHAPE,
    convolution,
    fixed,
    integers,
    last,
    linear,
    logits,
    opened,
    pixels,
)


class Counted:
    """A function, and how often it was called."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.calls = 0

    def __call__(self) -> Any:
        self.calls += 1
        return self.function()


def placed(session: Session) -> Placement:
    assert isinstance(session, Delegating)
    found = session.placement()
    assert found is not None
    return found


def threads_now() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def test_litert_is_the_default_and_doctor_knows_all() -> None:
    assert default_runtime("tflite") == "litert"
    assert {"litert", "litert_builtin", "tflite", "tflite_builtin"} <= set(NAMES)
    assert "torch" not in NAMES
    states = {finding.subject: finding for finding in doctor.examine()}
    assert "ai_edge_litert 2" in states["runtime litert"].detail
    assert "tflite_runtime 2" in states["runtime tflite_builtin"].detail


@pytest.mark.parametrize("name", NAMES)
def test_any_number_of_samples_goes_through_a_dynamic_batch(make_tflite: MakeArtifact, name: str) -> None:
    images = pixels(19)
    artifact = make_tflite(linear(), **TENSORS)
    probabilities, found = execute(artifact.folder, {"pixels": images}, runtime=name)
    np.testing.assert_allclose(found, logits(images), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize(("batch", "count"), [(1, 3), (4, 9)])
def test_any_number_of_samples_fits_a_fixed_batch(make_tflite: MakeArtifact, batch: int, count: int) -> None:
    artifact = make_tflite(linear(batch=batch), inputs=fixed(INPUTS, batch), outputs=fixed(OUTPUTS, batch))
    images = pixels(count)
    np.testing.assert_allclose(execute(artifact.folder, {"pixels": images})[1], logits(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_another_batch_is_allocated_once_and_earlier_answers_stay(make_tflite: MakeArtifact, name: str) -> None:
    session = opened(make_tflite(linear(), **TENSORS), name)
    engine = session._engine  # type: ignore[attr-defined]
    engine.allocate_tensors = allocate = Counted(engine.allocate_tensors)
    answers = []
    for count in (1, 3, 3, 2, 2):
        feeds = {"pixels": last(pixels(count))}
        answers.append((count, session.run(feeds)))
    assert allocate.calls == 2
    for count, (_, found) in answers:
        np.testing.assert_allclose(found, logits(pixels(count)), rtol=1e-4, atol=1e-4)
    session.close()


@pytest.mark.parametrize("name", NAMES)
def test_arrays_that_do_not_fit_are_refused_in_one_line_and_change_nothing(
    make_tflite: MakeArtifact, name: str
) -> None:
    session = opened(make_tflite(linear(), **TENSORS), name)
    for wrong, says in [
        (last(pixels(1)).astype(np.float64), "FLOAT64"),
        (last(pixels(1)).astype(np.int8), "INT8"),
        (pixels(1), r"takes any batch of \(8, 8, 3\), and was given \(1, 3, 8, 8\)"),
        (last(pixels(1))[0], r"was given \(8, 8, 3\)"),
    ]:
        with pytest.raises(BadArtifact, match=says) as caught:
            session.run({"pixels": wrong})
        assert "\n" not in str(caught.value)
        np.testing.assert_allclose(session.run({"pixels": last(pixels(2))})[1], logits(pixels(2)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_fixed_batch_is_not_changed(make_tflite: MakeArtifact, name: str) -> None:
    artifact = make_tflite(linear(batch=2), inputs=fixed(INPUTS, 2), outputs=fixed(OUTPUTS, 2))
    with pytest.raises(BadArtifact, match=r"takes \(2, 8, 8, 3\), and was given \(3, 8, 8, 3\)"):
        opened(artifact, name).run({"pixels": last(pixels(3))})


@pytest.mark.parametrize("name", NAMES)
def test_a_file_whose_batch_is_less_free_than_the_manifest_says_is_refused(
    make_tflite: MakeArtifact, name: str
) -> None:
    session = opened(make_tflite(linear(batch=1), **TENSORS), name)
    for _ in range(2):
        with pytest.raises(BadArtifact, match=r"does not take inputs of \(3, 8, 8, 3\): .*resize"):
            session.run({"pixels": last(pixels(3))})
    np.testing.assert_allclose(session.run({"pixels": last(pixels(1))})[1], logits(pixels(1)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "content",
    [b"", b"TF", b"this is no model", bytes(1000), linear()[:16], linear()[:4] + b"TFL2" + linear()[8:]],
    ids=["empty", "two bytes", "text", "zeros", "a header", "another identifier"],
)
def test_a_file_that_is_no_model_is_a_bad_artifact_in_one_line(
    make_tflite: MakeArtifact, name: str, content: bytes
) -> None:
    with pytest.raises(BadArtifact, match=r"does not open .*model\.tflite: \S") as caught:
        opened(make_tflite(content, **TENSORS), name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", DELEGATED)
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_file_that_was_cut_off_is_an_error_even_if_the_engine_crashes(
    make_tflite: MakeArtifact, name: str, kept: float
) -> None:
    whole = linear()
    with pytest.raises(EdgeError):
        execute(make_tflite(whole[: int(len(whole) * kept)], **TENSORS).folder, {"pixels": pixels(1)}, runtime=name)


@pytest.mark.parametrize("name", DELEGATED)
def test_xnnpack_has_the_threads_it_is_told(make_tflite: MakeArtifact, name: str) -> None:
    artifact = make_tflite(linear(), **TENSORS)
    images = pixels(64)
    answers = []
    for threads in (1, 2, 4):
        before = threads_now()
        session = opened(artifact, name, threads=threads)
        answers.append(session.run({"pixels": last(images)})[1])
        assert threads_now() - before == threads - 1
        session.close()
    for found in answers:
        np.testing.assert_allclose(found, logits(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(DELEGATED)))
def test_builtin_kernels_have_the_threads_they_are_told(make_tflite: MakeArtifact, name: str) -> None:
    """They start threads when an operator is large enough, and FULLY_CONNECTED never does."""
    artifact = make_tflite(convolution(), inputs=[WIDE], outputs=[WIDE.model_copy(update={"name": "y"})])
    started = []
    for threads in (1, 2):
        before = threads_now()
        session = opened(artifact, name, threads=threads)
        np.testing.assert_array_equal(session.run({"x": np.ones(WIDE_SHAPE, np.float32)})[0], 64)
        started.append(threads_now() - before)
        session.close()
    assert started[0] == 0 < started[1]


@pytest.mark.parametrize("name", NAMES)
def test_the_nodes_that_xnnpack_took_are_counted(make_tflite: MakeArtifact, name: str) -> None:
    session = opened(make_tflite(linear(), **TENSORS), name)
    expected = (
        Placement(delegate="XNNPACK", nodes_taken=2, nodes=2, partitions=1)
        if name in DELEGATED
        else Placement(delegate=None, nodes_taken=0, nodes=2, partitions=0)
    )
    assert placed(session) == expected
    session.run({"pixels": last(pixels(5))})
    assert placed(session) == expected
    session.close()


@pytest.mark.parametrize("name", DELEGATED)
def test_nodes_between_partitions_are_not_counted(make_tflite: MakeArtifact, name: str) -> None:
    """XNNPACK has no integer CAST: what is before it and behind it are two partitions."""
    chain = ["x", "a", "b", "c", "y"]
    content = file(
        [Tensor(name=n, shape=(1, 4), dtype="int32" if n == "b" else "float32") for n in chain],
        [
            Op(kind="ABS", inputs=["x"], outputs=["a"], options_type="AbsOptions"),
            Op(kind="CAST", inputs=["a"], outputs=["b"], options_type="CastOptions"),
            Op(kind="CAST", inputs=["b"], outputs=["c"], options_type="CastOptions"),
            Op(kind="NEG", inputs=["c"], outputs=["y"], options_type="NegOptions"),
        ],
        inputs=["x"],
        outputs=["y"],
    )
    record = TensorRecord(name="x", shape=(1, 4), dtype="float32")
    session = opened(make_tflite(content, inputs=[record], outputs=[record.model_copy(update={"name": "y"})]), name)
    np.testing.assert_array_equal(session.run({"x": np.array([[-1.5, 2, 0, 9.9]], np.float32)})[0], [[-1, -2, 0, -9]])
    assert placed(session) == Placement(delegate="XNNPACK", nodes_taken=2, nodes=4, partitions=2)


def test_an_engine_that_does_not_list_its_nodes_has_no_placement(
    make_tflite: MakeArtifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened(make_tflite(linear(), **TENSORS), "litert")
    monkeypatch.delattr("ai_edge_litert.interpreter.Interpreter._get_ops_details")
    assert isinstance(session, Delegating)
    assert session.placement() is None


def test_a_trial_records_the_placement(make_tflite: MakeArtifact) -> None:
    folder = make_tflite(linear(), **TENSORS).folder
    job = TimeJob(artifact=str(folder), runtime="litert", threads=1, batch=2, seed=0, effort="quick")
    timing = ask(connect("local"), job, answer=Timing, timeout_s=60)
    assert timing.placement == Placement(delegate="XNNPACK", nodes_taken=2, nodes=2, partitions=1)


@pytest.mark.parametrize("name", NAMES)
def test_int8_in_and_out_are_the_float_model_within_a_step(make_tflite: MakeArtifact, name: str) -> None:
    images = pixels(5)
    scale = float(np.abs(images).max() / 120)
    expected = last(np.round(images / scale) * scale).reshape(5, -1) @ (INT8_ROWS.T * INT8_STEP)
    out_scale = float(np.abs(expected).max() / 120)
    read_as = Quantization(scale=scale, zero_point=3)
    inputs = [INPUTS[0].model_copy(update={"dtype": "int8", "quantization": read_as})]
    read_as = Quantization(scale=out_scale, zero_point=-5)
    outputs = [OUTPUTS[1].model_copy(update={"dtype": "int8", "quantization": read_as})]
    artifact = make_tflite(integers(scale=scale, out_scale=out_scale), inputs=inputs, outputs=outputs)
    (found,) = execute(artifact.folder, {"pixels": images}, runtime=name)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= 1.01 * out_scale
