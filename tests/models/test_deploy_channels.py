"""The channels-second graph computes the same as the eager network, with convolutions and few reshapes."""

from __future__ import annotations

import copy
import functools
import warnings
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from evit_edge.models.deploy_channels import deploy_channels
from evit_edge.models.spec import ModelRequest, find

from .test_deploy import MODELS, _images, _model, _relative_l2


@functools.cache
def _traced(size: int) -> Any:
    with warnings.catch_warnings():
        # coremltools takes traced modules, which torch has deprecated; the check of the image's size is frozen.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message="Converting a tensor to a Python boolean")
        return torch.jit.trace(deploy_channels(_model(img_size=size)), _images(1, size))


@pytest.mark.parametrize("size", [224, 256, 448])
@pytest.mark.parametrize("name", MODELS)
@torch.inference_mode()
def test_every_model_gives_the_same_logits_at_every_size_and_batch(name: str, size: int) -> None:
    model, images = _model(name, img_size=size), _images(3, size)
    channels = deploy_channels(model)
    for logits, image, expected in zip(channels(images), images, model(images), strict=True):
        assert _relative_l2(logits, expected) <= 1e-5
        assert _relative_l2(channels(image[None])[0], expected) <= 1e-5


@pytest.mark.parametrize("size", [17, 65, 160])
@torch.inference_mode()
def test_small_and_odd_sizes_give_the_same_logits(size: int) -> None:
    model, images = _model("efficientvit_m1", img_size=size), _images(2, size)
    assert _relative_l2(deploy_channels(model)(images), model(images)) <= 1e-5


@torch.inference_mode()
def test_distillation_averages_both_heads() -> None:
    model, images = _model(distillation=True, num_classes=7), _images()
    logits = deploy_channels(model)(images)
    assert logits.shape == (1, 7)
    assert _relative_l2(logits, model(images)) <= 1e-5
    nn.init.normal_(model.head_dist.l.bias, mean=5.0)
    assert _relative_l2(logits, model(images)) > 0.1


@pytest.mark.parametrize("batch", [1, 3])
@torch.inference_mode()
def test_features_only_gives_the_maps_of_the_three_stages(batch: int) -> None:
    model, images = _model("efficientvit_m2", img_size=256, features_only=True), _images(batch, 256)
    features = deploy_channels(model)(images)
    assert [tuple(x.shape) for x in features] == [(batch, 128, 16, 16), (batch, 192, 8, 8), (batch, 224, 4, 4)]
    for actual, expected in zip(features, model(images), strict=True):
        assert _relative_l2(actual, expected) <= 1e-5


@torch.inference_mode()
def test_other_classes_and_channels_are_kept() -> None:
    model, images = _model(num_classes=10, in_channels=1), _images(channels=1)
    assert _relative_l2(deploy_channels(model)(images), model(images)) <= 1e-5


@pytest.mark.parametrize("size", [224, 256])
@torch.inference_mode()
def test_a_module_traced_at_batch_1_runs_at_batch_3(size: int) -> None:
    images = _images(3, size)
    assert _relative_l2(_traced(size)(images), _model(img_size=size)(images)) <= 1e-5


def test_the_traced_graph_has_convolutions_for_linear_layers_and_moves_little() -> None:
    kinds = Counter(node.kind() for node in _traced(224).inlined_graph.nodes())
    assert not {"aten::linear", "aten::addmm", "aten::baddbmm", "aten::mm"} & kinds.keys()
    # Transpositions are not counted: the 48 there are turn into flags of the products.
    assert kinds["aten::transpose"] == kinds["aten::matmul"] == 48
    moves = ("aten::reshape", "aten::flatten", "aten::permute", "aten::split", "aten::cat")
    assert sum(kinds[move] for move in moves) == 77


@pytest.mark.slow
def test_a_free_batch_stays_free_in_an_exported_program_of_at_most_five_axes() -> None:
    model, images = _model(img_size=256), _images(3, 256)
    shapes = ({0: torch.export.Dim("batch", min=1, max=64)},)
    program = torch.export.export(deploy_channels(model), (_images(2, 256),), dynamic_shapes=shapes)
    assert _relative_l2(program.module()(images), model(images).detach()) <= 1e-5
    values = [node.meta.get("val") for node in program.graph.nodes]
    assert max(value.dim() for value in values if isinstance(value, Tensor)) == 5


@torch.inference_mode()
def test_only_inference_is_left() -> None:
    channels = deploy_channels(_model(distillation=True).train())
    assert not channels.training
    assert not any(parameter.requires_grad for parameter in channels.parameters())
    assert not any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.Linear) for module in channels.modules())


@torch.inference_mode()
def test_the_eager_model_stays_untouched_and_shares_nothing() -> None:
    model, images = _model(), _images()
    before, expected = copy.deepcopy(model.state_dict()), model(images)
    channels = deploy_channels(model)
    for tensor in channels.state_dict().values():
        tensor.zero_()
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(model(images), expected)


@pytest.mark.parametrize("shape", [(2, 3, 448, 448), (1, 3, 224, 256)])
def test_an_image_size_it_was_not_built_for_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="built for batch any at 224px"):
        deploy_channels(_model())(torch.zeros(shape))


@torch.inference_mode()
def test_a_spec_gives_the_same_graph() -> None:
    spec = find(ModelRequest(name="efficientvit_m0", weights="random", img_size=96))
    model, images = spec.build(), _images(2, 96)
    assert _relative_l2(spec.deploy_channels(model)(images), model(images)) <= 1e-5
    assert not any(isinstance(module, nn.Linear) for module in spec.deploy_channels(model).modules())
