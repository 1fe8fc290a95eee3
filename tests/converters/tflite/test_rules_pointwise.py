"""Activations and arithmetic with broadcasting against PyTorch, in every engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from evit_edge.converters.tflite import direct
from evit_edge.converters.tflite.lowering import NotLowered

from .engines import Do, agree

ACTIVATIONS: dict[str, tuple[nn.Module, list[str]]] = {
    "relu": (nn.ReLU(), ["RELU"]),
    "relu in place": (nn.ReLU(inplace=True), ["RELU"]),
    "relu6": (nn.ReLU6(), ["RELU6"]),
    "hardtanh": (nn.Hardtanh(), ["RELU_N1_TO_1"]),
    "hardtanh 0 to 6": (nn.Hardtanh(0, 6), ["RELU6"]),
    "hardtanh -2 to 3": (nn.Hardtanh(-2, 3), ["MAXIMUM", "MINIMUM"]),
    "clamp": (Do(lambda x: x.clamp(-0.5, 0.7)), ["MAXIMUM", "MINIMUM"]),
    "clamp below": (Do(lambda x: x.clamp(min=0)), ["RELU"]),
    "clamp above": (Do(lambda x: x.clamp(max=0.5)), ["MINIMUM"]),
    "hardswish": (nn.Hardswish(), ["HARD_SWISH"]),
    "hardsigmoid": (nn.Hardsigmoid(), ["ADD", "MUL"]),
    "hardsigmoid in place": (nn.Hardsigmoid(inplace=True), ["ADD", "MUL"]),
    "sigmoid": (nn.Sigmoid(), ["LOGISTIC"]),
    "silu": (nn.SiLU(), ["LOGISTIC", "MUL"]),
    "gelu": (nn.GELU(), ["GELU"]),
    "gelu by tanh": (nn.GELU("tanh"), ["GELU"]),
    "tanh": (nn.Tanh(), ["TANH"]),
    "leaky relu": (nn.LeakyReLU(0.1), ["LEAKY_RELU"]),
    "prelu": (nn.PReLU(4), ["MINIMUM", "RELU", "MUL", "ADD"]),
    "elu": (nn.ELU(), ["ELU"]),
    "elu 0.5": (nn.ELU(0.5), []),
    "celu": (nn.CELU(1.5), []),
    "selu": (nn.SELU(), []),
    "square": (Do(lambda x: x**2), ["MUL"]),
    "root": (Do(lambda x: (x * x + 1).sqrt()), []),
    "power": (Do(lambda x: (x * x + 1) ** 1.5), []),
    "reciprocal root": (Do(lambda x: (x * x + 1).rsqrt()), []),
    "exponential": (Do(torch.exp), ["EXP"]),
    "magnitude": (Do(lambda x: -x.abs()), ["ABS", "NEG"]),
    "maximum": (Do(lambda x: torch.maximum(x, x.mean((2, 3), keepdim=True))), ["MEAN", "MAXIMUM"]),
    "minimum": (Do(lambda x: torch.minimum(x, -x)), ["NEG", "MINIMUM"]),
    "dropout": (nn.Sequential(nn.Dropout(), nn.ReLU()), ["RELU"]),
    "to float": (Do(lambda x: x.to(torch.float32).float().relu()), ["RELU"]),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str) -> None:
    module, wanted = ACTIVATIONS[name]
    kinds = agree(module, 2, 4, 5, 3)
    assert not wanted or kinds == wanted


@pytest.mark.parametrize("activation", [F.relu, F.relu6, F.hardtanh])
def test_an_activation_becomes_part_of_what_is_before(activation: Callable[..., Any]) -> None:
    convolution = nn.Conv2d(4, 6, 3)
    assert agree(Do(lambda x: activation(convolution(x))), 2, 4, 5, 5) == ["CONV_2D"]
    assert agree(Do(lambda x: activation(x + x.mean((2, 3), keepdim=True))), 2, 4, 5, 5) == ["MEAN", "ADD"]


def test_an_activation_of_what_is_taken_twice_stays() -> None:
    convolution = nn.Conv2d(4, 6, 3)

    def twice(x: torch.Tensor) -> Any:
        y = convolution(x)
        return y.relu() - y

    assert agree(Do(twice), 2, 4, 5, 5) == ["CONV_2D", "RELU", "SUB"]


CHANNELS = torch.linspace(0.5, 2, 4)
OPERANDS: dict[str, Callable[[torch.Tensor], Any]] = {
    "number": lambda x: 1.5,
    "integer": lambda x: 2,
    "scalar": lambda x: torch.tensor(1.5),
    "channels (1, C, 1, 1)": lambda x: CHANNELS.reshape(1, 4, 1, 1),
    "channels (C, 1, 1)": lambda x: CHANNELS.reshape(4, 1, 1),
    "rows (H, 1)": lambda x: torch.linspace(1, 2, 5)[:, None],
    "last axis": lambda x: torch.linspace(1, 2, 3),
    "whole": lambda x: torch.linspace(1, 2, 60).reshape(4, 5, 3),
    "one of each image": lambda x: x.mean((1, 2, 3), keepdim=True) + 3,
    "channels of each image": lambda x: x.mean((2, 3), keepdim=True) + 3,
    "of lower rank": lambda x: x.mean((0, 1)) + 3,
    "integers": lambda x: torch.arange(1, 4),
    "transposed": lambda x: x.abs().mean((0, 1)).t().reshape(1, 1, 5, 3) + 3,
}


@pytest.mark.parametrize("name", OPERANDS)
def test_arithmetic_broadcasts_both_ways(name: str) -> None:
    operand = OPERANDS[name]

    def everything(x: torch.Tensor) -> Any:
        y = operand(x)
        return (x + y) * y - (y - x) / 7 + x / y - y / (x * x + 1) + torch.add(x, y, alpha=2) + (3 - x)

    agree(Do(everything), 2, 4, 5, 3)


def test_rsub_and_alpha() -> None:
    agree(Do(lambda x: torch.rsub(x, 3, alpha=2) + torch.rsub(x, x * x) + torch.sub(x, x * x, alpha=3)), 2, 4, 5, 3)


def test_ranks_broadcast_in_a_permuted_layout() -> None:
    agree(Do(lambda x: x.permute(0, 2, 3, 1) + x.mean((0, 2, 3)) * x.permute(2, 3, 0, 1)[0, :, :, None]), 3, 3, 3, 3)


def test_only_a_constant_a_channel_is_folded() -> None:
    layer = nn.Linear(5, 4)
    rows = torch.linspace(1, 2, 4).reshape(4, 1)
    assert agree(Do(lambda x: layer(x) * CHANNELS + CHANNELS), 3, 4, 5) == ["FULLY_CONNECTED"]
    assert agree(Do(lambda x: CHANNELS * layer(x) - 2), 3, 4, 5) == ["FULLY_CONNECTED"]
    assert agree(Do(lambda x: layer(x) / 4), 3, 4, 5) == ["FULLY_CONNECTED"]
    assert agree(Do(lambda x: 1 - layer(x)), 3, 4, 5) == ["FULLY_CONNECTED", "SUB"]
    assert agree(Do(lambda x: layer(x) * rows), 3, 4, 5) == ["FULLY_CONNECTED", "MUL"]
    assert agree(Do(lambda x: layer(x) + CHANNELS.reshape(1, 1, 1, 4)), 4, 5) != ["FULLY_CONNECTED"]


def test_what_happens_in_place_is_seen_by_everyone() -> None:
    def changed(x: torch.Tensor) -> torch.Tensor:
        y = x + 1
        z = y.reshape(2, -1)
        F.relu_(y)
        return y.mean((2, 3)) + z.mean(1, keepdim=True)

    agree(Do(changed), 2, 4, 5, 3)


def test_constants_alone_are_computed_beforehand() -> None:
    table = torch.linspace(-2, 2, 24).reshape(2, 3, 4)
    assert agree(Do(lambda x: x + table.exp().mean(0)[:, 1:].softmax(-1)), 2, 3, 3) == ["ADD"]


@pytest.mark.parametrize(
    "function",
    [lambda x: x * x.shape[0], lambda x: x / x.shape[0], lambda x: x.double()],
    ids=["times the batch", "by the batch", "another type"],
)
def test_what_the_free_batch_does_not_allow(function: Callable[..., Any]) -> None:
    with pytest.raises(NotLowered):
        direct.graph_of(Do(function), (None, 400, 2))
