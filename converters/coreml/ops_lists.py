"""MIL's lists of tensors. Writing gives another list and leaves the one that was written to alone.

MIL does not say what an element holds before it is written, so reading it raises.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .operators import operator


@dataclass(frozen=True, slots=True, kw_only=True)
class Elements:
    """The tensors of a list, None before they are written; `grows` where writing behind the last makes it longer."""

    tensors: tuple[Tensor | None, ...]
    grows: bool


@operator
def make_list(
    elem_shape: tuple[Tensor | str, ...],
    init_length: Tensor | int = 1,
    dynamic_length: Tensor | bool = True,
    dtype: str = "fp32",
) -> Elements:
    """Shape and dtype of the elements are those of what is written."""
    return Elements(tensors=(None,) * int(init_length), grows=bool(dynamic_length))


@operator
def list_length(ls: Elements) -> Tensor:
    """Elements that were never written count."""
    return torch.tensor(len(ls.tensors), dtype=torch.int32)


@operator
def list_write(ls: Elements, index: Tensor, value: Tensor) -> Elements:
    """What an index behind the last leaves out has no value."""
    return _written(ls, [int(index)], [value])


@operator
def list_scatter(ls: Elements, indices: Tensor, value: Tensor) -> Elements:
    """Slices along the first axis, in their order."""
    return _written(ls, indices.tolist(), value.unbind())


@operator
def list_read(ls: Elements, index: Tensor) -> Tensor:
    """One element as it was written."""
    return _element(ls, int(index))


@operator
def list_gather(ls: Elements, indices: Tensor) -> Tensor:
    """Several elements along a new first axis."""
    return torch.stack([_element(ls, index) for index in indices.tolist()])


def _written(ls: Elements, indices: list[int], values: Iterable[Tensor]) -> Elements:
    tensors = list(ls.tensors)
    longest = max(indices, default=-1) + 1
    if min(indices, default=0) < 0 or (longest > len(tensors) and not ls.grows):
        raise IndexError(f"{indices} is not within the {len(tensors)} elements of a list")
    tensors += [None] * (longest - len(tensors))
    for index, value in zip(indices, values, strict=True):
        tensors[index] = value
    return replace(ls, tensors=tuple(tensors))


def _element(ls: Elements, index: int) -> Tensor:
    found = ls.tensors[index] if 0 <= index < len(ls.tensors) else None
    if found is None:
        raise IndexError(f"element {index} of a list of {len(ls.tensors)} was never written")
    return found
