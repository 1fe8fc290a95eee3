"""What each engine is told, and that the original is the model the artifact was made from, or nothing."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from evit_edge.converters.artifact import Artifact, ModelRecord, PreprocessRecord, TensorRecord
from evit_edge.device_bench.run_onnxruntime import RUNTIME as ONNXRUNTIME
from evit_edge.device_bench.run_torch import RUNTIME as TORCH
from evit_edge.device_bench.session import execute
from evit_edge.models.errors import BadArtifact, ModelUnavailable
from evit_edge.models.spec import ModelRequest, ModelSpec, find

from .conftest import MakeArtifact

IMG_SIZE = 64


@pytest.fixture
def spec() -> ModelSpec:
    return find(ModelRequest(name="efficientvit_m0", weights="random", img_size=IMG_SIZE, num_classes=7))


@pytest.fixture
def record(spec: ModelSpec) -> ModelRecord:
    """What the manifest of an artifact of `spec` says of it."""
    from dataclasses import asdict

    return ModelRecord(
        **asdict(spec.request),
        weights_sha256=spec.weights_sha256,
        digest=spec.digest,
        labels=spec.labels,
        preprocess=PreprocessRecord(**asdict(spec.preprocess)),
        licence=spec.licence,
    )


@pytest.fixture
def threads_kept() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def tensors(spec: ModelSpec) -> dict[str, tuple[TensorRecord, ...]]:
    return {
        "inputs": (TensorRecord(name=spec.inputs[0].name, shape=(1, 3, IMG_SIZE, IMG_SIZE), dtype="float32"),),
        "outputs": (TensorRecord(name=spec.outputs[0].name, shape=(1, 7), dtype="float32"),),
    }


def test_onnxruntime_has_the_threads_it_is_told(make_artifact: MakeArtifact) -> None:
    session = ONNXRUNTIME.open(make_artifact(), threads=2)
    options = session._engine.get_session_options()  # type: ignore[attr-defined]
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert session._engine.get_providers() == ["CPUExecutionProvider"]  # type: ignore[attr-defined]
    session.close()


def test_torch_runs_the_original_model_whatever_the_artifacts_batch(
    make_artifact: MakeArtifact, spec: ModelSpec, record: ModelRecord
) -> None:
    artifact = make_artifact(payload=b"never opened", target="any", model=record, **tensors(spec))
    images = np.random.default_rng(0).standard_normal((3, 3, IMG_SIZE, IMG_SIZE), np.float32)
    (found,) = execute(artifact.folder, {spec.inputs[0].name: images}, runtime="torch")
    with torch.inference_mode():
        expected = spec.build()(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_torch_has_the_threads_it_is_told_and_takes_arrays_that_cannot_be_written(
    make_artifact: MakeArtifact, spec: ModelSpec, record: ModelRecord, threads_kept: None
) -> None:
    session = TORCH.open(make_artifact(model=record, **tensors(spec)), threads=1)
    assert torch.get_num_threads() == 1
    images = np.ones((1, 3, IMG_SIZE, IMG_SIZE), np.float32)
    images.flags.writeable = False
    (found,) = session.run({spec.inputs[0].name: images})
    assert found.shape == (1, 7)
    session.close()


@pytest.mark.parametrize("field", ["digest", "weights_sha256"])
def test_torch_refuses_a_model_that_is_not_the_artifacts_any_more(
    make_artifact: MakeArtifact, record: ModelRecord, field: str, threads_kept: None
) -> None:
    other = make_artifact(model=record.model_copy(update={field: "0" * 64}))
    with pytest.raises(BadArtifact, match="another efficientvit_m0"):
        TORCH.open(other, threads=1)


def test_torch_says_when_the_weights_are_gone(
    make_artifact: MakeArtifact, record: ModelRecord, tmp_path: Path, threads_kept: None
) -> None:
    gone: Artifact = make_artifact(model=record.model_copy(update={"weights": str(tmp_path / "gone.safetensors")}))
    with pytest.raises(ModelUnavailable, match="gone"):
        TORCH.open(gone, threads=1)
