"""MIL's normalisations."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .operators import operator

Scalar = Tensor | float


@operator
def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: Scalar = 1e-5,
) -> Tensor:
    """By the mean and variance that are given for each channel, which is axis 1."""
    return F.batch_norm(x, mean, variance, gamma, beta, eps=float(epsilon))


@operator
def instance_norm(x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: Scalar = 1e-5) -> Tensor:
    """Over the spatial axes of each image and channel; scale and offset are the channel's."""
    # PyTorch's own refuses a channel of one pixel, whose result is its offset.
    by_channel = (-1, *[1] * (x.ndim - 2))
    scale = None if gamma is None else gamma.reshape(by_channel)
    offset = None if beta is None else beta.reshape(by_channel)
    return _standardised(x, list(range(2, x.ndim)), scale, offset, epsilon)


@operator
def l2_norm(x: Tensor, epsilon: Scalar = 1e-6) -> Tensor:
    """Over the last three axes together."""
    return x / torch.sqrt(x.square().sum((-3, -2, -1), keepdim=True) + epsilon)


@operator
def layer_norm(
    x: Tensor,
    axes: Tensor | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: Scalar = 1e-5,
) -> Tensor:
    """Over any axes, all unless they are said; scale and offset have the shape of those axes, in the order of x."""
    over = list(range(x.ndim)) if axes is None else sorted({int(axis) % x.ndim for axis in axes.tolist()})
    if over == list(range(over[0], x.ndim)):
        return F.layer_norm(x, x.shape[over[0] :], gamma, beta, float(epsilon))
    shape = [size if axis in over else 1 for axis, size in enumerate(x.shape)]
    scale = None if gamma is None else gamma.reshape(shape)
    offset = None if beta is None else beta.reshape(shape)
    return _standardised(x, over, scale, offset, epsilon)


@operator
def local_response_norm(x: Tensor, size: Tensor, alpha: Scalar = 1e-4, beta: Scalar = 0.75, k: Scalar = 1.0) -> Tensor:
    """Over `size` neighbouring channels, one more before than behind for an even size; alpha is divided by the size."""
    return F.local_response_norm(x, int(size), float(alpha), float(beta), float(k))


def _standardised(x: Tensor, axes: list[int], scale: Tensor | None, offset: Tensor | None, epsilon: Scalar) -> Tensor:
    variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    result = (x - mean) * torch.rsqrt(variance + epsilon)
    if scale is not None:
        result = result * scale
    return result if offset is None else result + offset
