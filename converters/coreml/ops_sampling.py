"""MIL's operators that take an image's values at any coordinates."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .operators import operator


@operator
def resample(
    x: Tensor,
    coordinates: Tensor,
    sampling_mode: str,
    padding_mode: str,
    padding_value: Tensor,
    coordinates_mode: str,
    align_corners: Tensor | bool,
) -> Tensor:
    """Samples at (x, y) coordinates; `reflection` leaves the edge out, `symmetric` repeats it."""
    sizes = torch.tensor([x.shape[-1], x.shape[-2]], dtype=torch.float32)
    points = coordinates.float()
    if coordinates_mode != "unnormalized":
        part = (points + 1) / 2 if coordinates_mode == "normalized_minus_one_to_one" else points
        points = part * (sizes - 1) if align_corners else part * sizes - 0.5
    reflected = padding_mode == "reflection"
    # PyTorch ties the place of the mirror to how its own coordinates are counted.
    grid = 2 * points / (sizes - 1).clamp(min=1) - 1 if reflected else (2 * points + 1) / sizes - 1
    constant = padding_mode == "constant"
    padding = {"constant": "zeros", "border": "border", "reflection": "reflection", "symmetric": "reflection"}
    result = F.grid_sample(
        x - padding_value if constant else x, grid, sampling_mode, padding[padding_mode], align_corners=reflected
    )
    return result + padding_value if constant else result


@operator
def affine(
    x: Tensor,
    transform_matrix: Tensor,
    output_height: Tensor,
    output_width: Tensor,
    sampling_mode: str,
    padding_mode: str,
    padding_value: Tensor,
    coordinates_mode: str,
    align_corners: Tensor | bool,
) -> Tensor:
    """The matrix takes the output's (x, y) to the input's, both from -1 to 1 between the centers of the corners."""
    if not align_corners or (sampling_mode, padding_mode) != ("bilinear", "constant") or float(padding_value):
        raise NotImplementedError(f"affine with {sampling_mode}, {padding_mode}, align_corners {bool(align_corners)}")
    if coordinates_mode != "normalized_minus_one_to_one":
        raise NotImplementedError(f"affine with {coordinates_mode} coordinates")
    matrix = transform_matrix.reshape(-1, 2, 3).expand(x.shape[0], 2, 3)
    size = [x.shape[0], x.shape[1], int(output_height), int(output_width)]
    return F.grid_sample(x, F.affine_grid(matrix, size, align_corners=True), align_corners=True)
