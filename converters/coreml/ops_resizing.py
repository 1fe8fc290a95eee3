"""MIL's operators that resize or crop an image, without further word over its last two axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from .operators import operator

# Where each of `out` samples lies among `size` pixels, by MIL's name of the mode, before it is held inside.
GRIDS: Final[Mapping[str, Callable[[Tensor, int, int], Tensor]]] = {
    "STRICT_ALIGN_CORNERS": lambda i, size, out: i * (size - 1) / max(1, out - 1),
    "ALIGN_CORNERS": lambda i, size, out: i * (size - 1) / (out - 1) if out > 1 else i + (size - 1) / 2,
    "DEFAULT": lambda i, size, out: i * size / out,
    "OFFSET_CORNERS": lambda i, size, out: (i + 0.5) * max(1, size - 1) / out,
    "UNALIGN_CORNERS": lambda i, size, out: (i + 0.5) * size / out - 0.5,
}


def _linear(x: Tensor, sizes: Sequence[int], mode: str) -> Tensor:
    """The last axes of x resized to `sizes`, one after the other."""
    for axis, out in zip(range(-len(sizes), 0), sizes, strict=True):
        size = x.shape[axis]
        x = _between(x, axis, GRIDS[mode](torch.arange(out, dtype=torch.float64), size, out))
    return x


def _between(x: Tensor, axis: int, points: Tensor) -> Tensor:
    """x between its pixels along a negative axis; points are held inside."""
    size = x.shape[axis]
    points = points.clamp(0, size - 1)
    low = points.floor().long()
    high = (low + 1).clamp(max=size - 1)
    weight = (points - low).float().reshape(-1, *[1] * (-axis - 1))
    return torch.lerp(x.index_select(axis, low), x.index_select(axis, high), weight)


def _nearest(x: Tensor, sizes: Sequence[int], *, halves: int) -> Tensor:
    """The pixel under each sample, which is so many halves of a pixel to the right of its corner."""
    for axis, out in zip(range(-len(sizes), 0), sizes, strict=True):
        index = (2 * torch.arange(out) + halves) * x.shape[axis] // (2 * out)
        x = x.index_select(axis, index)
    return x


def _scaled(x: Tensor, *factors: Tensor | float) -> list[int]:
    sizes = zip(x.shape[-2:], factors, strict=True)
    return [math.floor(size * float(factor)) for size, factor in sizes]


@operator
def upsample_nearest_neighbor(
    x: Tensor, scale_factor_height: Tensor | float = 1, scale_factor_width: Tensor | float = 1
) -> Tensor:
    """Samples at the pixels' corners; a broken factor is what the whole sizes come to."""
    return _nearest(x, _scaled(x, scale_factor_height, scale_factor_width), halves=0)


@operator
def resize_nearest_neighbor(x: Tensor, target_size_height: Tensor, target_size_width: Tensor) -> Tensor:
    """Samples at the pixels' centers."""
    return _nearest(x, [int(target_size_height), int(target_size_width)], halves=1)


@operator
def upsample_bilinear(
    x: Tensor,
    scale_factor_height: Tensor | float = 1,
    scale_factor_width: Tensor | float = 1,
    align_corners: Tensor | bool = True,
    half_pixel_centers: Tensor | bool | None = None,
) -> Tensor:
    """A broken factor is what the whole sizes come to; centers are half a pixel off unless corners are aligned."""
    aligned = bool(align_corners)
    centered = not aligned if half_pixel_centers is None else bool(half_pixel_centers)
    if aligned and centered:
        raise NotImplementedError("upsample_bilinear with both align_corners and half_pixel_centers")
    mode = "STRICT_ALIGN_CORNERS" if aligned else "UNALIGN_CORNERS" if centered else "DEFAULT"
    return _linear(x, _scaled(x, scale_factor_height, scale_factor_width), mode)


@operator
def resize_bilinear(
    x: Tensor,
    target_size_height: Tensor | int = 1,
    target_size_width: Tensor | int = 1,
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    """Samples where the mode's grid says."""
    return _linear(x, [int(target_size_height), int(target_size_width)], sampling_mode)


@operator
def resize(
    x: Tensor,
    shape: Tensor,
    resized_dims: Tensor,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    """The last `resized_dims` axes take the last sizes of `shape`; a size of 0 is that of x."""
    count = int(resized_dims)
    wanted = shape.tolist()[len(shape) - count :]
    sizes = [size or kept for size, kept in zip(wanted, x.shape[x.ndim - count :], strict=True)]
    if interpolation_mode == "LINEAR" and x.is_floating_point():
        return _linear(x, sizes, sampling_mode)
    if interpolation_mode == "NEAREST_NEIGHBOR" and sampling_mode == "DEFAULT":
        return _nearest(x, sizes, halves=1)
    raise NotImplementedError(f"resize of {x.dtype} with {interpolation_mode} and {sampling_mode}")


@operator
def crop(x: Tensor, crop_height: Tensor, crop_width: Tensor) -> Tensor:
    """Cuts so many pixels off before and after."""
    top, bottom = crop_height.tolist()
    left, right = crop_width.tolist()
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


@operator
def crop_resize(
    x: Tensor,
    roi: Tensor | None = None,
    boxes: Tensor | None = None,
    box_indices: Tensor | None = None,
    target_height: Tensor | int = 1,
    target_width: Tensor | int = 1,
    normalized_coordinates: Tensor | bool = False,
    spatial_scale: Tensor | float = 1,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
    pad_value: Tensor | float = 0,
) -> Tensor:
    """Before iOS 17 `roi`, of four numbers a box for all images or of five with the image's index, later `boxes`.

    The one grid that coremltools' tests have a device's values for, and that fits them.
    """
    if sampling_mode != "ALIGN_CORNERS" or box_coordinate_mode not in ("CORNERS_HEIGHT_FIRST", "CORNERS_WIDTH_FIRST"):
        raise NotImplementedError(f"crop_resize with {sampling_mode} and {box_coordinate_mode}")
    corners, images = _boxes(x, roi, boxes, box_indices)
    corners = corners.double() * float(spatial_scale)
    if box_coordinate_mode == "CORNERS_WIDTH_FIRST":
        corners = corners[:, [1, 0, 3, 2]]
    height, width = (size - 1 if normalized_coordinates else 1 for size in x.shape[-2:])
    crops = []
    for box, of in zip(corners, images, strict=True):
        rows = _spread(box[0] * height, box[2] * height, int(target_height))
        columns = _spread(box[1] * width, box[3] * width, int(target_width))
        inside = _inside(rows, x.shape[-2])[:, None] & _inside(columns, x.shape[-1])
        crops.append(torch.where(inside, _between(_between(x[of], -2, rows), -1, columns), float(pad_value)))
    return torch.stack(crops)


def _boxes(x: Tensor, roi: Tensor | None, boxes: Tensor | None, indices: Tensor | None) -> tuple[Tensor, Tensor]:
    """Four numbers a box, and for each the indices of its images, in the shape that they have in the result."""
    if boxes is not None:
        return boxes, torch.arange(len(boxes)) if indices is None else indices.long()
    if roi is None:
        raise TypeError("crop_resize has no boxes")
    rows = roi.flatten(1)
    if rows.shape[1] == 5:
        return rows[:, 1:], rows[:, :1].long()
    return rows, torch.arange(len(x)).expand(len(rows), -1)


def _spread(start: Tensor, end: Tensor, count: int) -> Tensor:
    """From `start` to `end`, the last exactly there: what lies beyond the edge is padding."""
    if count == 1:
        return ((start + end) / 2).reshape(1)
    return start + torch.arange(count) * (end - start) / (count - 1)


def _inside(points: Tensor, size: int) -> Tensor:
    return (points >= 0) & (points <= size - 1)
