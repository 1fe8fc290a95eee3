"""Each rule for a layer against PyTorch, in every engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from evit_edge.converters.tflite import direct
from evit_edge.converters.tflite.lowering import NotLowered

from .engines import Do, agree, randomised

CONVOLUTIONS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "1x1": ((4, 6, 1), {}),
    "3x3": ((4, 6, 3), {"padding": 1}),
    "3x3 valid": ((4, 6, 3), {}),
    "no bias": ((4, 6, 3), {"padding": 1, "bias": False}),
    "stride 2": ((4, 6, 3), {"padding": 1, "stride": 2}),
    "5x5 stride 2": ((4, 6, 5), {"padding": 2, "stride": 2}),
    "7x7 stride 2, little padding": ((4, 6, 7), {"padding": 1, "stride": 2}),
    "patches": ((4, 6, 4), {"stride": 4}),
    "1x1 stride 2": ((4, 6, 1), {"stride": 2}),
    "strides of two sizes": ((4, 6, 3), {"padding": 1, "stride": (1, 2)}),
    "dilation": ((4, 6, 3), {"padding": 2, "dilation": 2}),
    "dilations of two sizes": ((4, 6, 3), {"padding": (1, 3), "dilation": (1, 3)}),
    "same": ((4, 6, 3), {"padding": "same"}),
    "same, even kernel": ((4, 6, (2, 4)), {"padding": "same"}),
    "same, even kernel, dilation": ((4, 6, 2), {"padding": "same", "dilation": 3}),
    "valid by name": ((4, 6, 3), {"padding": "valid", "stride": 2}),
    "asymmetric kernel": ((4, 6, (1, 5)), {"padding": (0, 2)}),
    "asymmetric kernel, one padding": ((4, 6, (3, 1)), {"padding": 1}),
    "depthwise": ((4, 4, 3), {"padding": 1, "groups": 4}),
    "depthwise stride 2": ((4, 4, 3), {"padding": 1, "groups": 4, "stride": 2}),
    "depthwise 5x5 no bias": ((4, 4, 5), {"padding": 2, "groups": 4, "bias": False}),
    "depthwise dilation": ((4, 4, 3), {"padding": 2, "groups": 4, "dilation": 2}),
    "depthwise multiplier 2": ((4, 8, 3), {"padding": 1, "groups": 4}),
    "groups": ((4, 6, 3), {"padding": 1, "groups": 2}),
    "groups 1x1": ((4, 4, 1), {"groups": 2}),
}


@pytest.mark.parametrize("side", [(8, 8), (9, 7)], ids=["even", "odd"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str, side: tuple[int, int]) -> None:
    positional, keywords = CONVOLUTIONS[name]
    kinds = agree(nn.Conv2d(*positional, **keywords), 2, 4, *side)
    assert kinds[-1] == ("DEPTHWISE_CONV_2D" if keywords.get("groups") == 4 else "CONV_2D")
    assert set(kinds[:-1]) <= {"PAD"}


def test_a_stride_of_2_pads_only_where_tflite_would_pad_elsewhere() -> None:
    convolution = nn.Conv2d(4, 6, 3, padding=1, stride=2)
    assert agree(convolution, 1, 4, 9, 9) == ["CONV_2D"]
    assert agree(convolution, 1, 4, 8, 8) == ["PAD", "CONV_2D"]


def test_one_channel_is_no_depthwise_convolution() -> None:
    assert agree(nn.Conv2d(1, 3, 3, padding=1), 2, 1, 8, 8) == ["CONV_2D"]


def matrix(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


A, B = matrix(5, 5), matrix(2, 5, 5, seed=2)

PRODUCTS: dict[str, tuple[Callable[[torch.Tensor], Any] | nn.Module, tuple[int, ...]]] = {
    "linear 1-D": (nn.Linear(5, 3), (5,)),
    "linear 2-D": (nn.Linear(5, 3), (4, 5)),
    "linear 3-D": (nn.Linear(5, 3), (2, 4, 5)),
    "linear 4-D": (nn.Linear(5, 3), (2, 3, 4, 5)),
    "linear no bias": (nn.Linear(5, 3, bias=False), (2, 4, 5)),
    "linear over a permuted axis": (lambda x: F.linear(x.transpose(1, 2), A), (2, 5, 3)),
    "linear of computed weights": (lambda x: F.linear(x, x + 1, x[:, 0]), (5, 5)),
    "linear of a computed bias": (lambda x: F.linear(x, A, x.mean(0)), (4, 5)),
    "x y": (lambda x: x @ (x + 1), (2, 3, 5, 5)),
    "xᵀ y": (lambda x: x.transpose(-1, -2) @ (x + 1), (2, 3, 4, 5)),
    "x yᵀ": (lambda x: x @ (x + 1).transpose(-1, -2), (2, 3, 4, 5)),
    "xᵀ yᵀ": (lambda x: x.transpose(-1, -2) @ (x + 1).transpose(-1, -2), (2, 3, 5, 5)),
    "matrix, matrix": (lambda x: x @ (x + 1).t(), (4, 5)),
    "bmm": (lambda x: torch.bmm(x, x.transpose(1, 2)), (3, 4, 5)),
    "batches of two ranks": (lambda x: x[0, 0] @ x.transpose(-1, -2), (2, 3, 4, 5)),
    "batches broadcast": (lambda x: x[:, :1] @ x.transpose(-1, -2), (2, 3, 4, 5)),
    "a constant right": (lambda x: x @ A, (2, 4, 5)),
    "constants right, broadcast": (lambda x: x @ B, (3, 2, 4, 5)),
    "a constant left": (lambda x: A @ x, (5, 4)),
    "a constant left of a batch": (lambda x: A @ x, (2, 5, 4)),
    "addmm, constant right": (lambda x: torch.addmm(A[0], x, A), (4, 5)),
    "addmm, constant left": (lambda x: torch.addmm(A[:, :1], A, x), (5, 4)),
    "addmm, full bias": (lambda x: torch.addmm(A, A, x), (5, 5)),
    "addmm, computed": (lambda x: torch.addmm(x[0], x, x.t()), (5, 5)),
    "baddbmm": (lambda x: torch.baddbmm(x, x, x.transpose(1, 2)), (2, 5, 5)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name: str) -> None:
    function, shape = PRODUCTS[name]
    kinds = agree(function if isinstance(function, nn.Module) else Do(function), *shape, scale=1)
    assert set(kinds) & {"FULLY_CONNECTED", "BATCH_MATMUL"}


@pytest.mark.parametrize(("left", "right", "turned"), [(0, 0, 0), (0, 1, 0), (1, 1, 0), (1, 0, 1)])
def test_a_transposition_is_written_only_for_a_left_matrix(left: bool, right: bool, turned: int) -> None:
    def product(x: torch.Tensor) -> torch.Tensor:
        # A sum over the result, so that it does not matter how it lies.
        y = x + 1
        return ((x.mT if left else x) @ (y.mT if right else y)).mean((1, 2), keepdim=True)

    kinds = agree(Do(product), 2, 5, 5, scale=1)
    assert kinds.count("TRANSPOSE") == turned


MASK = matrix(6, 6)
BOOLEAN = torch.ones(6, 6, dtype=torch.bool).tril()


@pytest.mark.parametrize(
    "options",
    [{}, {"scale": 0.5}, {"attn_mask": MASK}, {"attn_mask": MASK, "scale": 2.0}, {"attn_mask": BOOLEAN}],
    ids=["plain", "scale", "mask", "mask and scale", "boolean mask"],
)
def test_attention(options: dict[str, Any]) -> None:
    def attend(x: torch.Tensor) -> torch.Tensor:
        q, k, v = x.reshape(2, 6, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        return F.scaled_dot_product_attention(q, k, v, **options).transpose(1, 2).reshape(2, 6, 8)

    agree(Do(attend), 2, 6, 24)


@pytest.mark.parametrize("axis", [-1, 0, 1, 2, 3])
def test_softmax(axis: int) -> None:
    agree(Do(lambda x: x.softmax(axis)), 2, 3, 4, 5)


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("axes", [(2, 3), (1,), (-1,), (1, 2), (0,), (0, 1, 2, 3)])
def test_mean(axes: tuple[int, ...], keepdim: bool) -> None:
    agree(Do(lambda x: x.mean(axes, keepdim=keepdim) + 1), 2, 3, 4, 5)


def test_mean_of_everything() -> None:
    agree(Do(lambda x: x.mean().reshape(1, 1)), 2, 3, 4)


POOLS: dict[str, nn.Module] = {
    "max": nn.MaxPool2d(2),
    "max 3 by 2, padded": nn.MaxPool2d(3, 2, 1),
    "max overlapping": nn.MaxPool2d(3, 1, 1),
    "max, sizes of two kinds": nn.MaxPool2d((2, 3), (2, 1), (0, 1)),
    "max after a ReLU": nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
    "average": nn.AvgPool2d(2),
    "average 3 by 2": nn.AvgPool2d(3, 2),
    "average, padded": nn.AvgPool2d(3, 2, 1),
    "adaptive to one": nn.AdaptiveAvgPool2d(1),
    "adaptive": nn.AdaptiveAvgPool2d((4, 2)),
}


@pytest.mark.parametrize("name", POOLS)
def test_pools(name: str) -> None:
    agree(POOLS[name], 2, 3, 8, 8)


def test_a_pool_of_what_is_never_negative_is_padded_with_zeros() -> None:
    assert "PADV2" not in agree(POOLS["max after a ReLU"], 2, 3, 8, 8)
    assert "PADV2" in agree(POOLS["max 3 by 2, padded"], 2, 3, 8, 8)


NORMS: dict[str, tuple[nn.Module, list[str]]] = {
    "batch, folded": (nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6)), ["CONV_2D"]),
    "batch, depthwise": (nn.Sequential(nn.Conv2d(4, 8, 3, groups=4), nn.BatchNorm2d(8)), ["DEPTHWISE_CONV_2D"]),
    "batch, activation": (nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU6()), ["CONV_2D"]),
    "batch after a ReLU": (
        nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.BatchNorm2d(6)),
        ["CONV_2D", "MUL", "ADD"],
    ),
    "batch alone": (nn.BatchNorm2d(4), ["MUL", "ADD"]),
    "batch without weights": (nn.BatchNorm2d(4, affine=False), ["MUL", "ADD"]),
    "batch of vectors": (nn.Sequential(nn.Flatten(), nn.Linear(256, 5), nn.BatchNorm1d(5)), ["FULLY_CONNECTED"]),
}


@pytest.mark.parametrize("name", NORMS)
def test_batch_norms(name: str) -> None:
    module, kinds = NORMS[name]
    found = agree(randomised(module), 2, 4, 8, 8)
    assert [kind for kind in found if kind not in ("TRANSPOSE", "RESHAPE")] == kinds


def test_layer_norms() -> None:
    agree(randomised(nn.LayerNorm(5)), 2, 3, 4, 5)
    agree(randomised(nn.LayerNorm((4, 5))), 2, 3, 4, 5)
    agree(nn.LayerNorm(6, elementwise_affine=False), 2, 3, 6)


def test_a_layer_norm_over_channels_turns_nothing() -> None:
    norm = randomised(nn.LayerNorm(6))
    kinds = agree(Do(lambda x: norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)), 2, 6, 4, 5)
    assert not {"TRANSPOSE", "RESHAPE"} & set(kinds)


RESIZES: dict[str, dict[str, Any]] = {
    "nearest to a size": {"size": (8, 12)},
    "nearest to an odd size": {"size": (5, 9)},
    "nearest by a factor": {"scale_factor": 2},
    "bilinear": {"size": (9, 5), "mode": "bilinear"},
    "bilinear by a factor": {"scale_factor": (2, 1.5), "mode": "bilinear"},
    "bilinear, smaller": {"size": (2, 3), "mode": "bilinear"},
    "bilinear, corners": {"size": (9, 5), "mode": "bilinear", "align_corners": True},
    "bilinear, corners, smaller": {"size": (1, 3), "mode": "bilinear", "align_corners": True},
}


@pytest.mark.parametrize("name", RESIZES)
def test_resizes(name: str) -> None:
    agree(Do(lambda x: F.interpolate(x, **RESIZES[name])), 2, 3, 4, 6)


REFUSED: dict[str, tuple[Callable[[torch.Tensor], Any] | nn.Module, str]] = {
    "a pool that leaves the padding out": (lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), "avg_pool2d"),
    "a pool rounded up": (lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True), "max_pool2d"),
    "an uneven adaptive pool": (lambda x: F.adaptive_avg_pool2d(x, 3), "adaptive_avg_pool2d"),
    "a resize by a broken factor": (lambda x: F.interpolate(x, scale_factor=1.3), "upsample_nearest2d"),
    "causal attention": (lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True), "attention"),
    "a transposed convolution": (nn.ConvTranspose2d(3, 2, 3), "conv"),
    "an adaptive pool of the largest": (lambda x: F.adaptive_max_pool2d(x, 2), "adaptive_max_pool2d"),
    "half precision": (lambda x: x.half() + 1, "aten."),
    "a slice of places": (lambda x: x[:, torch.tensor([0, 2])], "index"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_by_name(name: str) -> None:
    function, operator = REFUSED[name]
    module = function if isinstance(function, nn.Module) else Do(function)
    with pytest.raises(NotLowered, match=rf"aten\..*{operator}|{operator}"):
        direct.graph_of(module, (2, 3, 8, 8))
