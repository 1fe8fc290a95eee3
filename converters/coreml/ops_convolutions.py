"""MIL's convolutions over one to three spatial axes, and the padding that its poolings share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F

from .operators import operator

FORWARD: Final[tuple[Any, ...]] = (F.conv1d, F.conv2d, F.conv3d)
BACKWARD: Final[tuple[Any, ...]] = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)

Pairs = list[tuple[int, int]]


def paddings(
    pad_type: str, pad: Tensor | None, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int]
) -> Pairs:
    """What lies before and after each spatial axis; `kernel` are the kernel's sizes after dilation."""
    if pad_type == "valid":
        return [(0, 0)] * len(kernel)
    if pad_type == "custom":
        return _custom(pad, len(kernel))
    # The output is as many strides long as it takes to cover the input.
    totals = [
        max(0, (-(-size // stride) - 1) * stride + width - size)
        for size, width, stride in zip(sizes, kernel, strides, strict=True)
    ]
    return _shared_out(pad_type, totals)


def flat(pairs: Pairs) -> list[int]:
    """The padding in PyTorch's order, which begins with the last axis."""
    return [side for pair in reversed(pairs) for side in pair]


@operator
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Tensor | None = None,
    pad_type: str = "valid",
    pad: Tensor | None = None,
    dilations: Tensor | None = None,
    groups: Tensor | int = 1,
) -> Tensor:
    """`same` has the odd row of padding behind, `same_lower` before; `pad` counts for `custom` only."""
    step, spread = _numbers(strides, x), _numbers(dilations, x)
    pairs = paddings(pad_type, pad, x.shape[2:], _dilated(weight, spread), step)
    even = all(before == after for before, after in pairs)
    if not even:
        x = F.pad(x, flat(pairs))
    sides = [before for before, _ in pairs] if even else 0
    result: Tensor = FORWARD[x.ndim - 3](x, weight, bias, step, sides, spread, int(groups))
    return result


@operator
def conv_quantized(
    x: Tensor,
    weight: Tensor,
    quantization_type: str,
    quant_scale: Tensor,
    quant_bias: Tensor,
    bias: Tensor | None = None,
    nbits: Tensor | int = 8,
    **convolution: Any,
) -> Tensor:
    """The weight is `weight * quant_scale + quant_bias`, each of them one value or one for every output channel."""
    if quantization_type != "linear" or int(nbits) != 8:
        raise NotImplementedError(f"conv_quantized with {quantization_type} weights of {int(nbits)} bits")
    by_output = (-1, *[1] * (weight.ndim - 1))
    wide = weight.float() * quant_scale.reshape(by_output) + quant_bias.reshape(by_output)
    return conv(x, wide, None if bias is None else bias.float(), **convolution)


@operator
def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    pad: Tensor | None = None,
    output_shape: Tensor | None = None,
    pad_type: str = "valid",
    strides: Tensor | None = None,
    dilations: Tensor | None = None,
    groups: Tensor | int = 1,
) -> Tensor:
    """The gradient of a convolution whose input has `output_shape`; the weight is (inputs, outputs / groups, …)."""
    step, spread = _numbers(strides, x), _numbers(dilations, x)
    whole: Tensor = BACKWARD[x.ndim - 3](x, weight, None, step, 0, 0, int(groups), spread)
    if output_shape is not None:
        sizes = [int(size) for size in output_shape[2:]]
    elif pad_type == "same":
        sizes = [size * stride for size, stride in zip(x.shape[2:], step, strict=True)]
    else:
        sizes = []
    cut = _cut(pad_type, pad, whole.shape[2:], sizes)
    # A positive padding stands where no input reaches; a negative one cuts off, maybe more than the whole product has.
    for way in (max, min):
        part = [(way(before, 0), way(after, 0)) for before, after in cut]
        whole = F.pad(whole, flat(part)) if any(map(any, part)) else whole
    return whole if bias is None else whole + bias.reshape(-1, *[1] * (x.ndim - 2))


def _cut(pad_type: str, pad: Tensor | None, whole: torch.Size, sizes: list[int]) -> Pairs:
    """What is added before and after each axis of the whole product to come to `sizes`, or to what the padding says."""
    if pad_type == "same":
        before = [
            first for first, _ in _shared_out(pad_type, [max(0, w - s) for w, s in zip(whole, sizes, strict=True)])
        ]
        return [(-b, s - (w - b)) for b, s, w in zip(before, sizes, whole, strict=True)]
    if pad_type not in ("valid", "custom"):
        raise NotImplementedError(f"conv_transpose with pad_type {pad_type}")
    pairs = _custom(pad, len(whole)) if pad_type == "custom" else [(0, 0)] * len(whole)
    if not sizes:
        return [(-before, -after) for before, after in pairs]
    return [(-before, s - (w - before)) for (before, _), s, w in zip(pairs, sizes, whole, strict=True)]


def _custom(pad: Tensor | None, axes: int) -> Pairs:
    sides = [0] * 2 * axes if pad is None else pad.tolist()
    return list(zip(sides[::2], sides[1::2], strict=True))


def _shared_out(pad_type: str, totals: list[int]) -> Pairs:
    if pad_type == "same":
        return [(total // 2, total - total // 2) for total in totals]
    if pad_type == "same_lower":
        return [(total - total // 2, total // 2) for total in totals]
    raise NotImplementedError(f"pad_type {pad_type}")


def _numbers(given: Tensor | None, x: Tensor) -> list[int]:
    return [1] * (x.ndim - 2) if given is None else given.tolist()


def _dilated(weight: Tensor, dilations: list[int]) -> list[int]:
    return [(size - 1) * dilation + 1 for size, dilation in zip(weight.shape[2:], dilations, strict=True)]
