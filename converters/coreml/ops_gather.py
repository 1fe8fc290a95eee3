"""Reading and writing at computed indices.

A negative index counts from the end, which iOS 17 leaves undefined unless `validate_indices` forbids it; any other
index outside raises. To scatter is to gather the places of the updates and to write there.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from .operators import operator

Index = Callable[[torch.Tensor], torch.Tensor]


@operator
def gather(
    x: torch.Tensor,
    indices: torch.Tensor,
    axis: torch.Tensor | int = 0,
    batch_dims: torch.Tensor | int = 0,
    validate_indices: torch.Tensor | bool = False,
) -> torch.Tensor:
    """The indices' shape takes the place of the axis; the first `batch_dims` axes are common to both."""
    along, batch = int(axis) % x.ndim, int(batch_dims)
    places = _inside(indices, x.shape[along], validate_indices)
    shape = (*x.shape[:along], *indices.shape[batch:], *x.shape[along + 1 :])
    if batch == 0:
        return x.index_select(along, places.flatten()).reshape(shape)
    pairs = zip(x.flatten(0, batch - 1), places.flatten(0, batch - 1), strict=True)
    return torch.stack([part.index_select(along - batch, of.flatten()) for part, of in pairs]).reshape(shape)


@operator
def gather_along_axis(
    x: torch.Tensor,
    indices: torch.Tensor,
    axis: torch.Tensor | int = 0,
    validate_indices: torch.Tensor | bool = False,
) -> torch.Tensor:
    """The result has the indices' shape, which differs from that of x only along the axis."""
    return x.gather(int(axis), _inside(indices, x.shape[int(axis)], validate_indices))


@operator
def gather_nd(
    x: torch.Tensor,
    indices: torch.Tensor,
    batch_dims: torch.Tensor | int = 0,
    validate_indices: torch.Tensor | bool = False,
) -> torch.Tensor:
    """The last axis of the indices names a slice behind the first `batch_dims` axes, which are common to both."""
    batch = int(batch_dims)
    own = [
        torch.arange(size).reshape([-1] + [1] * (indices.ndim - 2 - axis)) for axis, size in enumerate(x.shape[:batch])
    ]
    named = [_inside(part, x.shape[batch + axis], validate_indices) for axis, part in enumerate(indices.unbind(-1))]
    return x[(*own, *named)]


@operator
def scatter(
    data: torch.Tensor,
    indices: torch.Tensor,
    updates: torch.Tensor,
    *,
    axis: torch.Tensor | int = 0,
    mode: str = "add",
    validate_indices: torch.Tensor | bool = False,
) -> torch.Tensor:
    """Slices along the axis, where `gather` would read them."""
    return _scattered(data, updates, mode, lambda places: gather(places, indices, axis, 0, validate_indices))


@operator
def scatter_along_axis(
    data: torch.Tensor,
    indices: torch.Tensor,
    updates: torch.Tensor,
    *,
    axis: torch.Tensor | int = 0,
    mode: str = "add",
    validate_indices: torch.Tensor | bool = False,
) -> torch.Tensor:
    """Single values, where `gather_along_axis` would read them."""
    return _scattered(data, updates, mode, lambda places: gather_along_axis(places, indices, axis, validate_indices))


@operator
def scatter_nd(
    data: torch.Tensor,
    indices: torch.Tensor,
    updates: torch.Tensor,
    mode: str = "add",
    validate_indices: torch.Tensor | bool = False,
) -> torch.Tensor:
    """Slices, where `gather_nd` would read them."""
    return _scattered(data, updates, mode, lambda places: gather_nd(places, indices, 0, validate_indices))


def _inside(indices: torch.Tensor, size: int, validate: torch.Tensor | bool) -> torch.Tensor:
    places = indices.long()
    low = 0 if validate else -size
    if bool(((places < low) | (places >= size)).any()):
        raise IndexError(f"an index lies outside of an axis of size {size}")
    return torch.where(places < 0, places + size, places)


def _scattered(data: torch.Tensor, updates: torch.Tensor, mode: str, read: Index) -> torch.Tensor:
    """Repeated indices accumulate in every mode but `update`, where the last one stays."""
    flat = data.flatten()
    places = read(torch.arange(math.prod(data.shape)).reshape(data.shape)).flatten()
    values = updates.flatten()
    if mode == "update":
        # PyTorch's own scatter promises no order.
        last = torch.full(flat.shape, -1).scatter_reduce(0, places, torch.arange(len(places)), "amax")
        result = torch.where(last >= 0, values[last], flat) if len(places) else flat
    elif mode == "div":
        divisors = torch.ones_like(flat).scatter_reduce(0, places, values, "prod")
        result = flat / divisors if flat.is_floating_point() else flat.div(divisors, rounding_mode="floor")
    elif mode == "sub":
        result = flat.scatter_reduce(0, places, -values, "sum")
    else:
        how = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}.get(mode)
        if how is None:
            raise ValueError(f"mode is {mode}")
        result = flat.scatter_reduce(0, places, values, how)
    return result.reshape(data.shape)
