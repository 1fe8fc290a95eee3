"""Making, joining and dividing tensors."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from .operators import operator


@operator
def band_part(x: torch.Tensor, lower: torch.Tensor | int = -1, upper: torch.Tensor | int = -1) -> torch.Tensor:
    """Zero outside of a band around the diagonal; a negative bound keeps that whole triangle."""
    low, high = int(lower), int(upper)
    distance = torch.arange(x.shape[-2])[:, None] - torch.arange(x.shape[-1])
    keep = ((distance <= low) if low >= 0 else True) & ((-distance <= high) if high >= 0 else True)
    return torch.where(torch.as_tensor(keep), x, torch.zeros_like(x))


@operator
def cumsum(
    x: torch.Tensor,
    axis: torch.Tensor | int = 0,
    exclusive: torch.Tensor | bool = False,
    reverse: torch.Tensor | bool = False,
) -> torch.Tensor:
    """`exclusive` begins with 0 and leaves the last element out, `reverse` sums from the end."""
    along = int(axis)
    values = x.flip(along) if reverse else x
    if exclusive:
        rest = values.narrow(along, 0, x.shape[along] - 1)
        values = torch.cat([torch.zeros_like(values.narrow(along, 0, 1)), rest], along)
    sums = values.cumsum(along, dtype=x.dtype)
    return sums.flip(along) if reverse else sums


@operator
def fill(shape: torch.Tensor, value: torch.Tensor | float = 0.0) -> torch.Tensor:
    """`shape` may be computed."""
    return torch.as_tensor(value).expand(shape.tolist())


@operator
def fill_like(ref_tensor: torch.Tensor, value: torch.Tensor | float = 0.0) -> torch.Tensor:
    """The dtype is that of the value, not that of the reference."""
    return torch.as_tensor(value).expand(ref_tensor.shape)


@operator
def identity(x: object) -> object:
    """Renames a value of any kind."""
    return x


@operator
def shape(x: torch.Tensor) -> torch.Tensor:
    """The sizes as a vector of int32."""
    return torch.tensor(x.shape, dtype=torch.int32)


@operator
def one_hot(
    indices: torch.Tensor,
    one_hot_vector_size: torch.Tensor,
    axis: torch.Tensor | int = -1,
    on_value: torch.Tensor | int = 1,
    off_value: torch.Tensor | int = 0,
) -> torch.Tensor:
    """The new axis is counted in the result; an index outside of it is nowhere."""
    places = torch.arange(int(one_hot_vector_size))
    hot = (indices[..., None] == places).movedim(-1, int(axis))
    return torch.where(hot, torch.as_tensor(on_value), torch.as_tensor(off_value))


@operator
def pad(
    x: torch.Tensor, pad: torch.Tensor, mode: str = "constant", constant_val: torch.Tensor | float = 0.0
) -> torch.Tensor:
    """Pads the last axes, in the order of the axes: before and behind the first of them, then the next."""
    amounts = pad.reshape(-1, 2).tolist()
    if mode == "constant":
        backwards = [amount for pair in reversed(amounts) for amount in pair]
        return F.pad(x, backwards, value=float(constant_val))
    for axis, (before, behind) in enumerate(amounts, start=x.ndim - len(amounts)):
        last = x.shape[axis] - 1
        places = torch.arange(-before, last + behind + 1)
        if mode == "reflect" and max(before, behind) > last:
            raise ValueError(f"a reflection of {max(before, behind)} is longer than axis {axis}")
        places = last - (last - places.abs()).abs() if mode == "reflect" else places.clamp(0, last)
        x = x.index_select(axis, places)
    return x


@operator
def range_1d(end: torch.Tensor, start: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    """Without the end; the count is rounded up."""
    count = math.ceil(((end - start) / step).item())
    return start + torch.arange(count, dtype=start.dtype) * step


@operator
def tile(x: torch.Tensor, reps: torch.Tensor) -> torch.Tensor:
    """One count for each axis."""
    return x.repeat(reps.tolist())


@operator
def select(cond: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """All three broadcast."""
    return torch.where(cond.bool(), a, b)


@operator
def concat(
    values: tuple[torch.Tensor, ...], axis: torch.Tensor, interleave: torch.Tensor | bool = False
) -> torch.Tensor:
    """Scalars become a vector; `interleave` takes one slice of each in turn."""
    parts = [value.reshape(1) if value.ndim == 0 else value for value in values]
    along = int(axis) % parts[0].ndim
    if interleave:
        return torch.stack(parts, along + 1).flatten(along, along + 1)
    return torch.cat(parts, along)


@operator
def split(
    x: torch.Tensor,
    axis: torch.Tensor,
    num_splits: torch.Tensor | None = None,
    split_sizes: torch.Tensor | None = None,
) -> torch.Tensor | tuple[torch.Tensor, ...]:
    """`split_sizes` decides where both are given; a single part is no tuple."""
    if split_sizes is not None:
        parts: tuple[torch.Tensor, ...] = x.split(split_sizes.tolist(), int(axis))
    elif num_splits is not None:
        parts = x.split(x.shape[int(axis)] // int(num_splits), int(axis))
    else:
        raise ValueError("neither num_splits nor split_sizes is given")
    return parts if len(parts) > 1 else parts[0]


@operator
def stack(values: tuple[torch.Tensor, ...], axis: torch.Tensor) -> torch.Tensor:
    """The new axis is counted in the result."""
    return torch.stack(values, int(axis))
