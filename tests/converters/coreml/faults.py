"""Faults to plant in a saved package of EfficientViT-M0, and what they do to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .damage import Damaged

Fault = Callable[[Damaged], None]
Edit = Callable[[NDArray[Any]], NDArray[Any]]

RGB, BGR = 20, 30
STD = np.array((0.229, 0.224, 0.225))


def changed(kind: str, at: int, key: str, edit: Edit) -> Fault:
    """The constant of one operator, the `at`-th of its kind."""
    return lambda package: package.change(package.operations(kind)[at], key, edit)


def together(*faults: Fault) -> Fault:
    def plant(package: Damaged) -> None:
        for fault in faults:
            fault(package)

    return plant


def same(values: NDArray[Any]) -> NDArray[Any]:
    return values


def rolled(values: NDArray[Any]) -> NDArray[Any]:
    return np.roll(values, 1)


def more(values: NDArray[Any], by: float) -> NDArray[Any]:
    result: NDArray[Any] = values + np.asarray(by, values.dtype)
    return result


def first_times(values: NDArray[Any], factor: float) -> NDArray[Any]:
    result = values.copy()
    result.flat[0] *= factor
    return result


def swapped(values: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    """Two of them have changed places: those that this share of all is less than."""
    result = values.copy().reshape(-1)
    order = np.argsort(result)
    pair = order[[round(share * (len(order) - 1)) for share in (low, high)]]
    result[pair] = result[pair[::-1]]
    return result.reshape(values.shape)


def instead(*numbers: int) -> Edit:
    return lambda values: np.array(numbers, values.dtype)


def products_of(tokens: int) -> Callable[[Damaged], list[Any]]:
    """The products of two matrices whose result is (…, tokens, tokens)."""
    return lambda package: [
        operation
        for operation in package.operations("matmul")
        if [side.constant.size for side in operation.outputs[0].type.tensorType.dimensions][-2:] == [tokens, tokens]
    ]


def other_way_round(tokens: int, key: str) -> Fault:
    return lambda package: package.change(products_of(tokens)(package)[0], key, np.logical_not)


def in_colours(color: int) -> Fault:
    """What the description says of the order of colours."""
    return lambda package: setattr(package.model.description.input[0].type.imageType, "colorSpace", color)


def normalised(scale: Edit, offset: Edit) -> Fault:
    """coremltools makes one operator of the factor and the summand of the pixels."""
    return together(changed("batch_norm", 0, "gamma", scale), changed("batch_norm", 0, "beta", offset))


def by_std(values: NDArray[Any]) -> NDArray[Any]:
    result: NDArray[Any] = values / STD.reshape(values.shape)
    return result


STEM, LAST = 0, -1
WEIGHTS8 = "constexpr_affine_dequantize"
PALETTE = "constexpr_lut_to_dense"
# The product with the attention, (channels, 49) of (49, 49): it fits either way.
ATTENTION = changed("matmul", 1, "transpose_y", np.logical_not)
SCORES = other_way_round(16, "transpose_x")
PADDED = changed("conv", STEM, "pad", instead(0, 1, 0, 1))
EDGE = changed("conv", STEM, "pad", instead(1, 1, 0, 1))
DEEP = changed("conv", 60, "weight", rolled)

NOTHING: Mapping[str, Fault] = {
    "image": together(in_colours(RGB), normalised(same, same)),
    **dict.fromkeys(
        ("fp16", "w8", "int8", "pal8", "pal6"),
        together(changed("conv", STEM, "pad", same), changed("matmul", 1, "transpose_y", same)),
    ),
}

CAUGHT: Mapping[str, Mapping[str, Fault]] = {
    "image": {
        "BGR": in_colours(BGR),
        "not normalised": normalised(lambda scale: np.full_like(scale, 1 / 255), np.zeros_like),
        "normalised twice": normalised(by_std, lambda offset: by_std(offset) + offset),
    },
    "fp16": {
        "first weights rolled": changed("conv", STEM, "weight", rolled),
        "deep weights rolled": DEEP,
        "last weights rolled": changed("conv", LAST, "weight", rolled),
        "channels of the input": changed("conv", STEM, "weight", lambda weight: weight[:, ::-1]),
        "attention transposed": ATTENTION,
        "scores transposed": SCORES,
        "padding before and behind": PADDED,
        "padding of one side": EDGE,
        "padding of a depthwise layer": changed("conv", 4, "pad", instead(2, 0, 2, 0)),
    },
    "w8": {
        "weights rolled": changed(WEIGHTS8, 0, "quantized_data", rolled),
        "scale of one channel": changed(WEIGHTS8, 0, "scale", partial(first_times, factor=2)),
        "zero point": changed(WEIGHTS8, 0, "zero_point", partial(more, by=16)),
        "padding before and behind": PADDED,
    },
    "int8": {
        "weights rolled": changed(WEIGHTS8, 0, "quantized_data", rolled),
        "scale of one channel": changed(WEIGHTS8, 0, "scale", partial(first_times, factor=2)),
        "zero point": changed(WEIGHTS8, 0, "zero_point", partial(more, by=16)),
        "scale of the activations": changed("dequantize", 0, "scale", lambda scale: 2 * scale),
    },
    "pal6": {"two entries of a palette": changed(PALETTE, 0, "lut", partial(swapped, low=0.25, high=0.75))},
    "pal8": {
        "two entries of a palette": changed(PALETTE, 1, "lut", partial(swapped, low=0.25, high=0.75)),
        "indices rolled": changed(PALETTE, 0, "indices", rolled),
    },
}

# What costs less than the precision may cost. The first ones are faults of the float program, which the proof sees.
TOO_SMALL: Mapping[str, Mapping[str, Fault]] = {
    "w8": {
        "attention transposed": ATTENTION,
        "padding of one side": EDGE,
        "deep weights rolled": changed(WEIGHTS8, 37, "quantized_data", rolled),
        "deep scale of one channel": changed(WEIGHTS8, 37, "scale", partial(first_times, factor=16)),
    },
    "int8": {
        "attention transposed": ATTENTION,
        "scores transposed": SCORES,
        "padding of one side": EDGE,
        "deep weights rolled": changed(WEIGHTS8, 73, "quantized_data", rolled),
        "deep scale of one channel": changed(WEIGHTS8, 73, "scale", partial(first_times, factor=16)),
        "deep scale of the activations": changed("dequantize", 50, "scale", lambda scale: 2 * scale),
    },
    "pal6": {
        "attention transposed": ATTENTION,
        "scores transposed": SCORES,
        "padding of one side": EDGE,
        "ends of a palette": changed(PALETTE, 0, "lut", partial(swapped, low=0, high=1)),
    },
    "pal8": {
        "deep indices rolled": changed(PALETTE, 37, "indices", rolled),
        "ends of a palette": changed(PALETTE, 1, "lut", partial(swapped, low=0, high=1)),
    },
}

OF_THE_WEIGHTS: Mapping[str, Mapping[str, Fault]] = {
    name: {
        what: fault
        for what, fault in faults.items()
        # Wrong scales of activations are seen by nobody: no weights are wrong.
        if what.startswith(("deep", "ends")) and "activations" not in what
    }
    for name, faults in TOO_SMALL.items()
}

OF_THE_FLOAT_PROGRAM: Mapping[str, Fault] = {
    name: CAUGHT["fp16"][name]
    for name in (
        "channels of the input",
        "deep weights rolled",
        "attention transposed",
        "scores transposed",
        "padding before and behind",
        "padding of one side",
    )
}
