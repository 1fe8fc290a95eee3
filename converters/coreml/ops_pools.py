"""MIL's poolings over one to three spatial axes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F

from .operators import operator
from .ops_convolutions import Pairs, flat, paddings

AVERAGE: Final[tuple[Any, ...]] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
MAXIMUM: Final[tuple[Any, ...]] = (F.max_pool1d, F.max_pool2d, F.max_pool3d)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Windows:
    """Where the windows lie: `pads` is the padding, `beyond` how far the last window reaches behind it."""

    kernel: list[int]
    strides: list[int]
    pads: Pairs
    beyond: list[int]

    @property
    def reach(self) -> list[int]:
        """All that is to be added to the input, in PyTorch's order."""
        return flat([(before, after + more) for (before, after), more in zip(self.pads, self.beyond, strict=True)])

    @property
    def even(self) -> list[int] | None:
        """The padding if PyTorch's poolings can do it by themselves: the same on both sides, at most half a kernel."""
        fits = all(
            before == after and 2 * before <= k for (before, after), k in zip(self.pads, self.kernel, strict=True)
        )
        return [before for before, _ in self.pads] if fits and not any(self.beyond) else None

    @property
    def inside(self) -> bool:
        """Whether the windows stay inside of the input."""
        return not any(self.reach)


@operator
def max_pool(
    x: Tensor,
    kernel_sizes: Tensor,
    pad_type: str,
    strides: Tensor | None = None,
    pad: Tensor | None = None,
    ceil_mode: Tensor | bool = False,
) -> Tensor:
    """The padding is never the maximum."""
    windows = _windows(x, kernel_sizes, pad_type, strides, pad, ceil_mode)
    return _pooled(MAXIMUM, x, windows, padding=-math.inf)


@operator
def avg_pool(
    x: Tensor,
    kernel_sizes: Tensor,
    pad_type: str,
    strides: Tensor | None = None,
    pad: Tensor | None = None,
    exclude_padding_from_average: Tensor | bool = False,
    ceil_mode: Tensor | bool = False,
) -> Tensor:
    """Zeros of the padding count unless they are excluded; what lies behind the padding never counts."""
    windows = _windows(x, kernel_sizes, pad_type, strides, pad, ceil_mode)
    total = _pooled(AVERAGE, x, windows)
    if exclude_padding_from_average and not windows.inside:
        return total / _pooled(AVERAGE, torch.ones_like(x[:1, :1]), windows)
    if any(windows.beyond):
        counted = F.pad(torch.ones_like(x[:1, :1]), flat(windows.pads), value=1.0)
        behind = _Windows(
            kernel=windows.kernel, strides=windows.strides, pads=[(0, more) for more in windows.beyond], beyond=_none(x)
        )
        return total / _pooled(AVERAGE, counted, behind)
    return total


@operator
def l2_pool(
    x: Tensor,
    kernel_sizes: Tensor,
    pad_type: str,
    strides: Tensor | None = None,
    pad: Tensor | None = None,
    ceil_mode: Tensor | bool = False,
) -> Tensor:
    """The root of the sum of squares, not of their mean."""
    windows = _windows(x, kernel_sizes, pad_type, strides, pad, ceil_mode)
    return torch.sqrt(_pooled(AVERAGE, x.square(), windows) * math.prod(windows.kernel))


def _pooled(functions: tuple[Any, ...], x: Tensor, windows: _Windows, *, padding: float = 0.0) -> Tensor:
    sides = windows.even
    wide = x if sides is not None else F.pad(x, windows.reach, value=padding)
    result: Tensor = functions[x.ndim - 3](wide, windows.kernel, windows.strides, sides or 0)
    return result


def _windows(
    x: Tensor, kernel_sizes: Tensor, pad_type: str, strides: Tensor | None, pad: Tensor | None, ceil_mode: Tensor | bool
) -> _Windows:
    kernel = kernel_sizes.tolist()
    step = [1] * len(kernel) if strides is None else strides.tolist()
    sizes = list(x.shape[2:])
    pads = paddings(pad_type.lower(), pad, sizes, kernel, step)
    axes = zip(sizes, kernel, step, pads, strict=True)
    beyond = [_beyond(*axis) for axis in axes] if ceil_mode else _none(x)
    return _Windows(kernel=kernel, strides=step, pads=pads, beyond=beyond)


def _beyond(size: int, kernel: int, stride: int, pads: tuple[int, int]) -> int:
    """How far the last window of ceil mode reaches behind the padding."""
    steps = -(-(size + sum(pads) - kernel) // stride)
    # With a padding the last window must not begin behind the input; MIL says nothing of one without.
    if steps * stride >= size + pads[0]:
        if not any(pads):
            raise NotImplementedError("ceil_mode with a window that begins behind the input")
        steps -= 1
    return steps * stride + kernel - size - sum(pads)


def _none(x: Tensor) -> list[int]:
    return [0] * (x.ndim - 2)
