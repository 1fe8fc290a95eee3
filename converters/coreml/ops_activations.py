"""MIL's activations."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .operators import operator


def _by_channel(values: Tensor, x: Tensor) -> Tensor:
    """Values of the channels, which are axis 1, in a shape that broadcasts to x."""
    return values.reshape(-1, *[1] * (x.ndim - 2))


@operator
def clamped_relu(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """A leaky ReLU that is at most beta on both sides."""
    return torch.clamp(F.leaky_relu(x, alpha.item()), max=beta.item())


@operator
def elu(x: Tensor, alpha: Tensor) -> Tensor:
    """alpha * (e^x - 1) below zero."""
    return F.elu(x, alpha.item())


@operator
def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    """By the error function, or approximated by tanh or by a sigmoid."""
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate={"EXACT": "none", "TANH_APPROXIMATION": "tanh"}[mode])


@operator
def leaky_relu(x: Tensor, alpha: Tensor) -> Tensor:
    """alpha * x below zero."""
    return F.leaky_relu(x, alpha.item())


@operator
def linear_activation(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """alpha * x + beta."""
    return alpha * x + beta


@operator
def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """A leaky ReLU with an alpha for each channel."""
    return F.prelu(x, alpha)


@operator
def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return torch.relu(x)


@operator
def relu6(x: Tensor) -> Tensor:
    """min(max(x, 0), 6)."""
    return torch.clamp(x, 0.0, 6.0)


@operator
def scaled_tanh(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """alpha * tanh(beta * x): alpha is outside."""
    return alpha * torch.tanh(beta * x)


@operator
def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e^-x)."""
    return torch.sigmoid(x)


@operator
def sigmoid_hard(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """alpha * x + beta between 0 and 1."""
    return torch.clamp(alpha * x + beta, 0.0, 1.0)


@operator
def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x)."""
    return F.silu(x)


@operator
def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x), which is x where e^x overflows."""
    return F.softplus(x)


@operator
def softplus_parametric(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """alpha * log(1 + e^(beta * x)) with an alpha and a beta for each channel."""
    return _by_channel(alpha, x) * F.softplus(_by_channel(beta, x) * x)


@operator
def softmax(x: Tensor, axis: Tensor | int = -1) -> Tensor:
    """Over one axis, the last one unless it is said."""
    return torch.softmax(x, int(axis))


@operator
def softsign(x: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return F.softsign(x)


@operator
def thresholded_relu(x: Tensor, alpha: Tensor) -> Tensor:
    """x from alpha on, alpha itself included; 0 below it."""
    return torch.where(x < alpha, torch.zeros_like(x), x)
