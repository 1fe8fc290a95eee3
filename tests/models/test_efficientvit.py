"""The network against the authors' and timm's numbers, and what it does at other sizes, dtypes and heads."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from evit_edge.models.efficientvit import CONFIGS, EfficientViT
from evit_edge.models.spec import ModelRequest, find

GOLDEN = Path(__file__).parent / "golden"
VARIANTS = sorted(CONFIGS)
PARAMETERS = dict(zip(VARIANTS, (2_349_436, 2_980_560, 4_187_554, 6_900_722, 8_804_228, 12_473_772), strict=True))
# multiply-accumulates in millions at 224 px with every BatchNorm folded, as fvcore counts the authors' network
FUSED_MMACS = dict(zip(VARIANTS, (79.20, 167.05, 201.04, 262.67, 299.31, 521.59), strict=True))


def golden_input() -> Tensor:
    return torch.from_numpy(np.random.default_rng(2026).normal(0, 1, (2, 3, 224, 224)).astype(np.float32))


@cache
def random_state(name: str, img_size: int) -> dict[str, Tensor]:
    return find(ModelRequest(name=name, weights="random", img_size=img_size)).build().state_dict()


def random_model(name: str = "efficientvit_m0", *, img_size: int = 224) -> EfficientViT:
    model = EfficientViT(CONFIGS[name], img_size=img_size).eval()
    model.load_state_dict(random_state(name, img_size))
    return model


def small_input() -> Tensor:
    return golden_input()[:, :, :96, :96]


def relative_difference(model: EfficientViT, file: str, name: str) -> float:
    expected = np.load(GOLDEN / file)[name.removeprefix("efficientvit_")]
    with torch.inference_mode():
        got = model(golden_input()).numpy()
    return float(np.abs(got - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_are_those_of_timms_implementation(name: str) -> None:
    assert relative_difference(random_model(name), "timm_logits.npz", name) <= 1e-4


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_without_biases_are_those_of_the_authors_code(name: str) -> None:
    model = random_model(name)
    for key, parameter in model.named_parameters():
        if key.endswith("attention_biases"):
            torch.nn.init.zeros_(parameter)
    assert relative_difference(model, "reference_logits_without_biases.npz", name) <= 1e-4


@pytest.mark.parametrize("name", VARIANTS)
def test_keys_and_shapes_are_those_of_the_authors_state_dict(name: str) -> None:
    shapes = json.loads(gzip.decompress((GOLDEN / "state_dict_shapes.json.gz").read_bytes()))
    expected = shapes[name.removeprefix("efficientvit_")]
    ours = {key: list(tensor.shape) for key, tensor in EfficientViT(CONFIGS[name]).state_dict().items()}
    assert ours == {key: shape for key, shape in expected.items() if not key.endswith("attention_bias_idxs")}


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_and_macs_are_the_published_ones(name: str) -> None:
    model = EfficientViT(CONFIGS[name]).eval()
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, 3, 224, 224))
    assert counter.get_total_flops() / 2e6 == pytest.approx(FUSED_MMACS[name], rel=1e-3)


def test_weights_loaded_after_a_forward_in_eval_are_the_ones_used() -> None:
    model = EfficientViT(CONFIGS["efficientvit_m0"], img_size=96).eval()
    with torch.inference_mode():
        model(small_input())
        model.load_state_dict(random_state("efficientvit_m0", 96))
        assert torch.equal(model(small_input()), random_model(img_size=96)(small_input()))


@pytest.mark.parametrize("first", ["eval", "cast"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_eval_and_cast_work_in_either_order(first: str, dtype: torch.dtype) -> None:
    model = random_model(img_size=96).train()
    with torch.inference_mode():
        expected = random_model(img_size=96)(small_input())
        if first == "eval":
            model.eval()(small_input())
            model.to(dtype)
        else:
            model.to(dtype).eval()
        got = model(small_input().to(dtype))
    assert got.dtype == dtype
    tolerance = {torch.float16: 0.02, torch.bfloat16: 0.15, torch.float64: 1e-5}[dtype]
    assert (got.float() - expected).norm() <= tolerance * expected.norm()


def test_half_there_and_back_gives_float32_outputs_of_rounded_weights() -> None:
    model = random_model(img_size=96).half().float()
    with torch.inference_mode():
        expected, got = random_model(img_size=96)(small_input()), model(small_input())
    assert 0 < (got - expected).norm() <= 0.01 * expected.norm()


def test_distillation_gives_both_heads_in_training_and_their_mean_in_eval() -> None:
    torch.manual_seed(0)
    model = EfficientViT(CONFIGS["efficientvit_m0"], img_size=96, num_classes=7, distillation=True)
    image = torch.randn(2, 3, 96, 96)
    trained = model(image)
    assert [tuple(logits.shape) for logits in trained] == [(2, 7), (2, 7)]
    pooled: list[Tensor] = []
    model.head.register_forward_pre_hook(lambda _, inputs: pooled.append(inputs[0]))
    with torch.inference_mode():
        mean = model.eval()(image)
        heads = [head(pooled[0]) for head in (model.head, model.head_dist)]
    assert torch.allclose(mean, (heads[0] + heads[1]) / 2)
    assert not torch.allclose(heads[0], heads[1])


def test_features_have_strides_16_32_and_64() -> None:
    model = EfficientViT(CONFIGS["efficientvit_m3"], img_size=256, features_only=True).eval()
    with torch.inference_mode():
        features = model(torch.zeros(1, 3, 256, 256))
    assert [tuple(map_.shape) for map_ in features] == [(1, 128, 16, 16), (1, 240, 8, 8), (1, 320, 4, 4)]
    assert not any(key.startswith("head") for key in model.state_dict())


@pytest.mark.parametrize(("size", "windows"), [(96, (6, 3, 2)), (224, (7, 7, 4)), (256, (7, 7, 4)), (448, (7, 7, 7))])
def test_any_image_size_has_its_windows_and_any_number_of_classes_its_logits(
    size: int, windows: tuple[int, ...]
) -> None:
    model = EfficientViT(CONFIGS["efficientvit_m0"], img_size=size, num_classes=3).eval()
    biases = [next(t for k, t in s.state_dict().items() if k.endswith("attention_biases")) for s in model.stages]
    assert [tensor.shape[1] for tensor in biases] == [side**2 for side in windows]
    with torch.inference_mode():
        assert model(torch.zeros(2, 3, size, size)).shape == (2, 3)


def test_an_image_of_another_size_is_an_error_that_names_both_sizes() -> None:
    model = EfficientViT(CONFIGS["efficientvit_m0"]).eval()
    with pytest.raises(ValueError, match="built for maps of 14×14, got 16×16"):
        model(torch.zeros(1, 3, 256, 256))


@pytest.mark.parametrize("sizes", [{"img_size": 0}, {"num_classes": 0}])
def test_sizes_below_one_are_an_error(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        EfficientViT(CONFIGS["efficientvit_m0"], **sizes)  # type: ignore[arg-type]
