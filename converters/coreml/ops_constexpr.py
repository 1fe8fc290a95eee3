"""Compressed constants, and affine quantization of values."""

from __future__ import annotations

import math

import torch

from . import package
from .operators import operator

RANGES = {"int8": (-128, 127), "uint8": (0, 255)}


@operator
def constexpr_affine_dequantize(
    quantized_data: torch.Tensor, zero_point: torch.Tensor, scale: torch.Tensor, axis: torch.Tensor
) -> torch.Tensor:
    """scale · (quantized_data - zero_point), where each parameter is one number or a vector along `axis`."""
    return _dequantized(quantized_data, scale, zero_point, axis)


@operator
def dequantize(
    input: torch.Tensor,
    scale: torch.Tensor,
    zero_point: torch.Tensor | None = None,
    axis: torch.Tensor | None = None,
) -> torch.Tensor:
    """scale · (input - zero_point), where each parameter is one number or a vector along `axis`."""
    return _dequantized(input, scale, zero_point, axis)


@operator
def quantize(
    input: torch.Tensor,
    scale: torch.Tensor,
    output_dtype: str,
    zero_point: torch.Tensor | None = None,
    axis: torch.Tensor | None = None,
) -> torch.Tensor:
    """Rounds input / scale, halves to even, before it adds the zero point; saturates."""
    low, high = RANGES[output_dtype]
    steps = torch.round(input / _along(scale, input, axis))
    if zero_point is not None:
        steps = steps + _along(zero_point, input, axis)
    return steps.clamp(low, high).to(getattr(torch, output_dtype))


@operator
def constexpr_cast(source_val: torch.Tensor, output_dtype: str) -> torch.Tensor:
    """From fp16 to fp32, which are one dtype here."""
    if output_dtype != "fp32":
        raise ValueError(f"output_dtype is {output_dtype}")
    return source_val


@operator
def constexpr_lut_to_dense(
    indices: torch.Tensor,
    lut: torch.Tensor,
    shape: torch.Tensor | None = None,
    vector_axis: torch.Tensor | None = None,
) -> torch.Tensor:
    """iOS 16 has one table, and indices packed in bytes; iOS 18 a table per block, whose entries may be vectors."""
    if shape is None:
        return _looked_up(indices, lut, vector_axis)
    sizes = shape.tolist()
    dtype = f"uint{lut.numel().bit_length() - 1}"
    flat = package.unpacked(indices.numpy(), dtype=dtype, count=math.prod(sizes))
    return lut[torch.from_numpy(flat).long()].reshape(sizes)


@operator
def constexpr_sparse_to_dense(
    nonzero_data: torch.Tensor, mask: torch.Tensor, shape: torch.Tensor | None = None
) -> torch.Tensor:
    """In iOS 16 the mask is bits packed in bytes, in iOS 18 it has the shape of the result."""
    if shape is not None:
        sizes = shape.tolist()
        bits = package.unpacked(mask.numpy(), dtype="uint1", count=math.prod(sizes))
        mask = torch.from_numpy(bits).reshape(sizes)
    return _dense(nonzero_data, mask)


@operator
def constexpr_blockwise_shift_scale(
    data: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor | None = None
) -> torch.Tensor:
    """scale · (data - offset): along each axis one scale for as many values as the sizes divide."""
    shifted = data if offset is None else data.float() - _spread(offset, data.shape)
    return _spread(scale, data.shape) * shifted


@operator
def constexpr_lut_to_sparse(
    indices_mask: torch.Tensor,
    indices_nonzero_data: torch.Tensor,
    lut: torch.Tensor,
    vector_axis: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Looks only the kept values up; the mask grows along `vector_axis` with the vectors."""
    values = _looked_up(_dense(indices_nonzero_data, indices_mask), lut, vector_axis)
    mask = indices_mask
    if vector_axis is not None:
        mask = mask.repeat_interleave(lut.shape[-1], int(vector_axis))
    return mask, values[mask != 0]


@operator
def constexpr_sparse_blockwise_shift_scale(
    data_mask: torch.Tensor, nonzero_data: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scales only the kept values, each with the scale of its place in the whole."""
    whole = constexpr_blockwise_shift_scale(_dense(nonzero_data, data_mask), scale, offset)
    return data_mask, whole[data_mask != 0]


def _dequantized(
    data: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor | None, axis: torch.Tensor | None
) -> torch.Tensor:
    shifted = data.float() if zero_point is None else data.float() - _along(zero_point, data, axis)
    return _along(scale, data, axis) * shifted


def _along(parameter: torch.Tensor, data: torch.Tensor, axis: torch.Tensor | None) -> torch.Tensor:
    """A vector turned so that it lies along `axis` of the data."""
    if parameter.ndim == 0 or axis is None:
        return parameter
    sizes = [1] * data.ndim
    sizes[int(axis)] = -1
    return parameter.reshape(sizes)


def _spread(blocks: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Each value of `blocks` repeated so that the leading axes have the given sizes."""
    for axis, size in enumerate(shape):
        blocks = blocks.repeat_interleave(size // blocks.shape[axis], axis)
    return blocks


def _dense(nonzero_data: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    dense = torch.zeros(mask.shape, dtype=nonzero_data.dtype)
    dense[mask != 0] = nonzero_data
    return dense


def _looked_up(indices: torch.Tensor, lut: torch.Tensor, vector_axis: torch.Tensor | None) -> torch.Tensor:
    """The last two axes of a table are its entries and their vectors, those before say which block it is for."""
    # A block is found by its place, so that a table need not be repeated for each value of it.
    places = [
        (torch.arange(size) // (size // blocks)).reshape([-1] + [1] * (indices.ndim - 1 - axis))
        for axis, (size, blocks) in enumerate(zip(indices.shape, lut.shape[:-2], strict=True))
    ]
    vectors = lut[(*places, indices.long())]
    if vector_axis is None:
        return vectors.squeeze(-1)
    axis = int(vector_axis) % indices.ndim
    return vectors.movedim(-1, axis + 1).flatten(axis, axis + 1)
