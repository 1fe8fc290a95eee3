"""Constants folded together: BatchNorm into the layer beside it, in float64, rounded to float32 once."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from .efficientvit_layers import ConvNorm, NormLinear


def _affine(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """What BatchNorm multiplies by and adds, in float64."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, norm.bias.detach().double() - norm.running_mean.double() * scale


def folded(layer: ConvNorm) -> tuple[Tensor, Tensor]:
    """Weight and bias, in float64, of the one convolution that does both."""
    scale, shift = _affine(layer.bn)
    return layer.c.weight.detach().double() * scale[:, None, None, None], shift


def folded_classifier(head: NormLinear) -> tuple[Tensor, Tensor]:
    """Weight and bias, in float64, of the one linear layer that does both."""
    scale, shift = _affine(head.bn)
    weight = head.l.weight.detach().double()
    return weight * scale, weight @ shift + head.l.bias.detach().double()


def fold(layer: ConvNorm, *, residual: bool = False, scale: float = 1.0) -> nn.Conv2d:
    """One convolution for scale · layer(x), or for layer(x) + x where the layer is depthwise."""
    weight, bias = folded(layer)
    if residual:
        centre = layer.c.kernel_size[0] // 2
        weight[:, 0, centre, centre] += 1
    return convolution(layer.c, weight * scale, bias * scale)


def convolution(like: nn.Conv2d, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """A float32 convolution shaped as `like`, with these numbers."""
    conv = nn.Conv2d(
        like.in_channels,
        like.out_channels,
        like.kernel_size[0],
        like.stride[0],
        cast(int, like.padding[0]),
        groups=like.groups,
    )
    conv.weight, conv.bias = _parameter(weight), _parameter(bias)
    return conv


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A float32 linear layer with these numbers."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight, layer.bias = _parameter(weight), _parameter(bias)
    return layer


def _parameter(value: Tensor) -> nn.Parameter:
    # A copy always: `.float()` alone would share memory with a float32 source.
    return nn.Parameter(value.detach().float().clone(memory_format=torch.contiguous_format))
