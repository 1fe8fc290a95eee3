"""Parts of a tensor by index."""

from __future__ import annotations

import torch

from .operators import operator


@operator
def slice_by_size(x: torch.Tensor, begin: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    """A size of -1 takes the rest; a negative begin counts from the end."""
    for axis, (first, count) in enumerate(zip(begin.tolist(), size.tolist(), strict=True)):
        start = first + x.shape[axis] if first < 0 else first
        x = x.narrow(axis, start, x.shape[axis] - start if count == -1 else count)
    return x


@operator
def slice_by_index(
    x: torch.Tensor,
    begin: torch.Tensor,
    end: torch.Tensor,
    *,
    stride: torch.Tensor | None = None,
    begin_mask: torch.Tensor | None = None,
    end_mask: torch.Tensor | None = None,
    squeeze_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """As Python slices; a mask leaves that bound out, and `squeeze_mask` takes the one index `begin` and its axis."""
    for axis, places in enumerate(_places(x, begin, end, stride, (begin_mask, end_mask, squeeze_mask))):
        if places != range(x.shape[axis]):
            x = x.index_select(axis, torch.tensor(places, dtype=torch.int64))
    return x if squeeze_mask is None else x.squeeze(_true(squeeze_mask))


@operator
def slice_update(
    x: torch.Tensor,
    update: torch.Tensor,
    begin: torch.Tensor,
    end: torch.Tensor,
    *,
    stride: torch.Tensor | None = None,
    begin_mask: torch.Tensor | None = None,
    end_mask: torch.Tensor | None = None,
    squeeze_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """A copy of x in which `update` stands where `slice_by_index` would read."""
    places = _places(x, begin, end, stride, (begin_mask, end_mask, squeeze_mask))
    grid = torch.meshgrid([torch.tensor(place, dtype=torch.int64) for place in places], indexing="ij")
    return x.index_put(grid, update.reshape([len(place) for place in places]))


def _places(
    x: torch.Tensor,
    begin: torch.Tensor,
    end: torch.Tensor,
    stride: torch.Tensor | None,
    masks: tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None],
) -> list[range]:
    """For each axis the indices that a slice reads; PyTorch's own slices know no negative stride."""
    first: list[int | None] = begin.tolist()
    last: list[int | None] = end.tolist()
    steps = [1] * x.ndim if stride is None else stride.tolist()
    begin_mask, end_mask, squeeze_mask = masks
    for axis in _true(begin_mask):
        first[axis] = None
    for axis in _true(end_mask):
        last[axis] = None
    places = [range(*slice(*bounds).indices(size)) for *bounds, size in zip(first, last, steps, x.shape, strict=True)]
    for axis in _true(squeeze_mask):
        index = range(x.shape[axis])[first[axis] or 0]
        places[axis] = range(index, index + 1)
    return places


def _true(mask: torch.Tensor | None) -> tuple[int, ...]:
    return () if mask is None else tuple(i for i, given in enumerate(mask.tolist()) if given)
