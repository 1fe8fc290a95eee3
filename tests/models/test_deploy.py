"""The deploy graph computes the same as the eager network, with fewer operators."""

from __future__ import annotations

import copy
import functools
import warnings
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from evit_edge.models.deploy import deploy
from evit_edge.models.efficientvit import CONFIGS, CascadedGroupAttention, EfficientViT

MODELS = sorted(CONFIGS)


def _model(name: str = "efficientvit_m0", **options: Any) -> EfficientViT:
    """Random in every parameter and statistic: at init the residual branches are multiplied by zero."""
    torch.manual_seed(0)
    model = EfficientViT(CONFIGS[name], **options).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.running_mean = torch.randn(module.num_features) * 0.2
            module.running_var = torch.rand(module.num_features) + 0.5
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.bias)
        elif isinstance(module, CascadedGroupAttention):
            nn.init.normal_(module.attention_biases)
    return model


def _images(batch: int = 1, size: int = 224, *, channels: int = 3) -> Tensor:
    return torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(1))


def _relative_l2(actual: Tensor, expected: Tensor) -> float:
    assert actual.shape == expected.shape
    return float((actual - expected).norm() / expected.norm())


@functools.cache
def _export(batch: int | None) -> tuple[EfficientViT, onnx.ModelProto]:
    model = _model()
    shapes = ({0: torch.export.Dim("batch", min=1, max=64)},) if batch is None else None
    example = _images(batch or 2)
    with warnings.catch_warnings():
        # torch's exporter copies a pytree through an API that torch itself has deprecated.
        warnings.filterwarnings("ignore", category=FutureWarning)
        program = torch.onnx.export(
            deploy(model, batch=batch), (example,), dynamo=True, verbose=False, dynamic_shapes=shapes
        )
    assert program is not None
    return model, program.model_proto


def _session(graph: onnx.ModelProto, *, written: Path | None = None) -> Any:
    options = ort.SessionOptions()
    if written is not None:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(written)
    return ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("size", [224, 448, 256])
@pytest.mark.parametrize("name", MODELS)
@torch.inference_mode()
def test_every_model_gives_the_same_logits_at_every_size(name: str, size: int) -> None:
    model, images = _model(name, img_size=size), _images(size=size)
    expected = model(images)
    assert _relative_l2(deploy(model)(images), expected) <= 1e-5
    assert _relative_l2(deploy(model, batch=None)(images), expected) <= 1e-5


@pytest.mark.parametrize("size", [17, 65, 160])
@torch.inference_mode()
def test_small_and_odd_sizes_give_the_same_logits(size: int) -> None:
    model, images = _model("efficientvit_m1", img_size=size), _images(size=size)
    assert _relative_l2(deploy(model)(images), model(images)) <= 1e-5


@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("size", [224, 256])
@torch.inference_mode()
def test_a_free_batch_treats_every_image_on_its_own(batch: int | None, size: int) -> None:
    model, images = _model(img_size=size), _images(3, size)
    lean = deploy(model, batch=batch)
    expected = model(images)
    for logits, image, reference in zip(lean(images), images, expected, strict=True):
        assert _relative_l2(logits, reference) <= 1e-5
        assert _relative_l2(lean(image[None])[0], reference) <= 1e-5


@torch.inference_mode()
def test_distillation_averages_both_heads() -> None:
    model = _model(distillation=True, num_classes=7)
    images = _images()
    logits = deploy(model)(images)
    assert logits.shape == (1, 7)
    assert _relative_l2(logits, model(images)) <= 1e-5
    nn.init.normal_(model.head_dist.l.bias, mean=5.0)
    assert _relative_l2(logits, model(images)) > 0.1


@pytest.mark.parametrize("batch", [1, None])
@torch.inference_mode()
def test_features_only_gives_the_maps_of_the_three_stages(batch: int | None) -> None:
    model = _model("efficientvit_m2", img_size=256, features_only=True)
    images = _images(size=256)
    features = deploy(model, batch=batch)(images)
    assert [tuple(x.shape) for x in features] == [(1, 128, 16, 16), (1, 192, 8, 8), (1, 224, 4, 4)]
    for actual, expected in zip(features, model(images), strict=True):
        assert _relative_l2(actual, expected) <= 1e-5


@torch.inference_mode()
def test_other_classes_and_channels_are_kept() -> None:
    model, images = _model(num_classes=10, in_channels=1), _images(channels=1)
    assert _relative_l2(deploy(model)(images), model(images)) <= 1e-5


@pytest.mark.parametrize("batch", [1, None])
@torch.inference_mode()
def test_half_precision_runs_and_stays_close(batch: int | None) -> None:
    model, images = _model(), _images()
    lean = deploy(model, batch=batch).half()
    assert {tensor.dtype for tensor in lean.state_dict().values()} == {torch.float16}
    logits = lean(images.half())
    assert logits.dtype == torch.float16
    assert _relative_l2(logits.float(), model(images)) <= 1e-2


@torch.inference_mode()
def test_a_half_model_deploys_to_float32() -> None:
    lean = deploy(_model().half())
    assert {tensor.dtype for tensor in lean.state_dict().values()} == {torch.float32}
    assert lean(_images()).isfinite().all()


def test_only_inference_is_left() -> None:
    lean = deploy(_model(distillation=True).train())
    assert not lean.training
    assert not any(parameter.requires_grad for parameter in lean.parameters())
    assert not any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in lean.modules())


@torch.inference_mode()
def test_the_eager_model_stays_untouched_and_shares_nothing() -> None:
    model, images = _model(), _images()
    before, expected = copy.deepcopy(model.state_dict()), model(images)
    lean = deploy(model)
    for tensor in lean.state_dict().values():
        tensor.zero_()
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(model(images), expected)


@torch.inference_mode()
def test_a_change_of_any_weight_changes_the_deployed_logits() -> None:
    model, images = _model(), _images()
    expected = deploy(model)(images)
    for key, value in model.state_dict().items():
        if value.dtype.is_floating_point and "blocks3.3" in key:
            kept = value.clone()
            # Uneven, because the softmax removes whatever shifts a whole row of logits alike.
            value.mul_(torch.linspace(1.2, 1.8, value.shape[0]).view(-1, *[1] * (value.dim() - 1)))
            assert not torch.equal(deploy(model)(images), expected), key
            value.copy_(kept)


@pytest.mark.parametrize("shape", [(2, 3, 224, 224), (1, 3, 448, 448), (1, 3, 224, 256)])
def test_an_input_it_was_not_built_for_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="built for batch 1 at 224px"):
        deploy(_model())(torch.zeros(shape))


def test_a_batch_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="batch must be positive"):
        deploy(_model(), batch=0)


def test_m0_exports_to_at_most_420_nodes(tmp_path: Path) -> None:
    model, graph = _export(1)
    images = _images()
    session = _session(graph, written=tmp_path / "basic.onnx")
    logits = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: images.numpy()})[0])
    assert len(onnx.load(tmp_path / "basic.onnx").graph.node) <= 420
    assert _relative_l2(logits, model(images).detach()) <= 1e-5


@pytest.mark.parametrize("batch", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_a_free_batch_stays_free_in_the_exported_graph(batch: int) -> None:
    model, graph = _export(None)
    images = _images(batch)
    session = _session(graph)
    logits = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: images.numpy()})[0])
    assert _relative_l2(logits, model(images).detach()) <= 1e-5
