"""The same values in another shape or order."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from .operators import operator


@operator
def expand_dims(x: torch.Tensor, axes: torch.Tensor) -> torch.Tensor:
    """Axes are counted in the result."""
    rank = x.ndim + axes.numel()
    for axis in sorted(axis % rank for axis in axes.tolist()):
        x = x.unsqueeze(axis)
    return x


@operator
def squeeze(x: torch.Tensor, axes: torch.Tensor | None = None) -> torch.Tensor:
    """An axis whose size is not 1 stays."""
    return x.squeeze() if axes is None else x.squeeze(tuple(axes.tolist()))


@operator
def flatten2d(x: torch.Tensor, axis: torch.Tensor | int = 1) -> torch.Tensor:
    """A matrix of what lies before the axis by what lies from it on."""
    return x.reshape(math.prod(x.shape[: int(axis)]), math.prod(x.shape[int(axis) :]))


@operator
def reshape(x: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
    """0 keeps the size of the same axis counted from the right, and is 1 where there is none; -1 takes the rest."""
    sizes = shape.tolist()
    for i, size in enumerate(sizes):
        if size == 0:
            from_right = len(sizes) - i
            sizes[i] = x.shape[-from_right] if from_right <= x.ndim else 1
    return x.reshape(sizes)


@operator
def reshape_like(
    x: torch.Tensor,
    ref_tensors: torch.Tensor | tuple[torch.Tensor, ...],
    begins: torch.Tensor | tuple[torch.Tensor, ...],
    ends: torch.Tensor | tuple[torch.Tensor, ...],
    end_masks: torch.Tensor | tuple[torch.Tensor, ...],
) -> torch.Tensor:
    """A slice of each reference's shape, one after the other; with its mask a slice has no end."""
    sizes: list[int] = []
    for reference, begin, end, masked in zip(*map(_several, (ref_tensors, begins, ends, end_masks)), strict=True):
        sizes += reference.shape[int(begin) :] if masked else reference.shape[int(begin) : int(end)]
    return x.reshape(sizes)


def _several(given: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return given if isinstance(given, tuple) else (given,)


@operator
def transpose(x: torch.Tensor, perm: torch.Tensor) -> torch.Tensor:
    """Negative axes count from the end."""
    return x.permute(perm.tolist())


@operator
def reverse(x: torch.Tensor, axes: torch.Tensor | None = None) -> torch.Tensor:
    """Every axis where none is named."""
    return x.flip(tuple(range(x.ndim)) if axes is None else tuple(axes.tolist()))


@operator
def reverse_sequence(
    x: torch.Tensor, lengths: torch.Tensor, seq_axis: torch.Tensor | int = 0, batch_axis: torch.Tensor | int = 0
) -> torch.Tensor:
    """Turns the first `lengths[i]` elements of each sequence around and leaves the rest."""
    moved = x.movedim((int(batch_axis), int(seq_axis)), (0, 1))
    places = torch.arange(moved.shape[1]).expand(moved.shape[:2])
    ends = lengths.long()[:, None]
    turned = torch.where(places < ends, ends - 1 - places, places)
    result = moved[torch.arange(len(moved))[:, None], turned]
    return result.movedim((0, 1), (int(batch_axis), int(seq_axis)))


@operator
def depth_to_space(x: torch.Tensor, block_size: torch.Tensor) -> torch.Tensor:
    """The place in the block is the outer part of the channel, as in TensorFlow and unlike `pixel_shuffle`."""
    batch, channels, height, width = x.shape
    size = int(block_size)
    blocks = x.reshape(batch, size, size, channels // size**2, height, width)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(batch, -1, height * size, width * size)


@operator
def space_to_depth(x: torch.Tensor, block_size: torch.Tensor) -> torch.Tensor:
    """The place in the block is the outer part of the channel, as in TensorFlow and unlike `pixel_unshuffle`."""
    batch, channels, height, width = x.shape
    size = int(block_size)
    blocks = x.reshape(batch, channels, height // size, size, width // size, size)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(batch, -1, height // size, width // size)


@operator
def space_to_batch(x: torch.Tensor, block_shape: torch.Tensor, paddings: torch.Tensor) -> torch.Tensor:
    """Pads with 0; the place in the block is the outer part of the batch."""
    (top, bottom), (left, right) = paddings.tolist()
    padded = F.pad(x, (left, right, top, bottom))
    rows, columns = block_shape.tolist()
    batch, channels, height, width = padded.shape
    blocks = padded.reshape(batch, channels, height // rows, rows, width // columns, columns)
    return blocks.permute(3, 5, 0, 1, 2, 4).reshape(-1, channels, height // rows, width // columns)


@operator
def batch_to_space(x: torch.Tensor, block_shape: torch.Tensor, crops: torch.Tensor) -> torch.Tensor:
    """The place in the block is the outer part of the batch; crops what is then outside."""
    rows, columns = block_shape.tolist()
    batch, channels, height, width = x.shape
    blocks = x.reshape(rows, columns, batch // (rows * columns), channels, height, width)
    whole = blocks.permute(2, 3, 4, 0, 5, 1).reshape(-1, channels, height * rows, width * columns)
    (top, bottom), (left, right) = crops.tolist()
    return whole[:, :, top : height * rows - bottom, left : width * columns - right]


@operator
def pixel_shuffle(x: torch.Tensor, upscale_factor: torch.Tensor) -> torch.Tensor:
    """The place in the block is the inner part of the channel, as in PyTorch."""
    return F.pixel_shuffle(x, int(upscale_factor))


@operator
def pixel_unshuffle(x: torch.Tensor, downscale_factor: torch.Tensor) -> torch.Tensor:
    """The place in the block is the inner part of the channel, as in PyTorch."""
    return F.pixel_unshuffle(x, int(downscale_factor))


@operator
def sliding_windows(
    x: torch.Tensor, axis: torch.Tensor, size: torch.Tensor, stride: torch.Tensor | int = 1
) -> torch.Tensor:
    """The windows' own axis comes right behind the axis."""
    along = int(axis) % x.ndim
    return x.unfold(along, int(size), int(stride)).movedim(-1, along + 1)
