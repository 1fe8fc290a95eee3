"""Calibrated int8 without a Mac: coremltools places and scales, the ranges come from the reference executor.

`linear_quantize_activations` lacks nothing on Linux but `predict`, which its ranges come from; here it is given them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from ..inspection import NEARLY_ALL
from . import compress
from .inspection import layers
from .program import Program, flattened
from .ranges import Ranges
from .toolkit import coremltools, quiet

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Sums carry the residual stream, whose range is wide: in integers they cost a trained EfficientViT-M0 1.6 dB. Pools
# multiply nothing: between layers in int8 they stand between the pairs of those, and are int8 too.
IN_FLOAT: Final = ("add", "avg_pool", "max_pool")


def quantize(model: Any, program: Program, ranges: Ranges, *, kept: Collection[str] = ()) -> Any:
    """`model`, saved as `program`, with int8 activations where Core ML has integer kernels, and int8 weights.

    `ranges` are by the names of the program's values; outputs stay as they are, and so do the operators `kept`. Needs
    iOS 17.
    """
    coremltools()
    from coremltools.optimize import coreml

    known = {name: {"rmin": low, "rmax": high} for name, (low, high) in ranges.items() if name not in program.results}
    floats = together(program, {*_depthwise(program), *kept})
    config = coreml.OptimizationConfig(
        global_config=coreml.OpLinearQuantizerConfig(mode="linear_symmetric"),
        op_type_configs=dict.fromkeys(IN_FLOAT),
        op_name_configs=dict.fromkeys(floats),
    )
    with quiet(), _calibrated_by(known):
        activated = coreml.linear_quantize_activations(model, config, sample_data=[])
    return compress.quantize_weights(activated, smallest=0, kept=floats)


def together(program: Program, names: Collection[str]) -> set[str]:
    """`names` of operators, and those that have the same weights as one of them: coremltools stores them once."""
    weights = {
        operation.name: operation.inputs["weight"][0]
        for operation in flattened(program.operations)
        if "weight" in operation.inputs
    }
    theirs = {weights[name] for name in names if name in weights}
    return {*names, *(name for name, weight in weights.items() if weight in theirs)}


def _depthwise(program: Program) -> list[str]:
    """The depthwise layers, unless so much of the arithmetic is in them that the rest would not be int8 any more.

    They too lie on the residual stream: on a trained EfficientViT-M0 they cost 4 dB, with 2 % of the arithmetic.
    """
    groups = {
        operation.name: int(program.constants[operation.inputs["groups"][0]].value)  # type: ignore[arg-type]
        for operation in flattened(program.operations)
        if operation.kind == "conv" and "groups" in operation.inputs
    }
    weighty = [layer for layer in layers(program) if layer.weights]
    found = [layer for layer in weighty if groups.get(layer.name, 1) > 1]
    few = sum(layer.macs for layer in found) < (1 - NEARLY_ALL) * sum(layer.macs for layer in weighty)
    return [layer.name for layer in found] if few else []


@contextmanager
def _calibrated_by(known: Mapping[str, Mapping[str, float]]) -> Iterator[None]:
    from coremltools.optimize import _utils
    from coremltools.optimize.coreml import _post_training_quantization as ptq

    measured, scaled = ptq._get_activation_calibration_stats, _utils.quantize_weight_by_dtype
    ptq._get_activation_calibration_stats = lambda *arguments: dict(known)
    _utils.quantize_weight_by_dtype = _scaled
    try:
        yield
    finally:
        ptq._get_activation_calibration_stats, _utils.quantize_weight_by_dtype = measured, scaled


def _scaled(
    bounds: NDArray[Any], axes: int, dtype: type, quantization_mode: str
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """`bounds`, and the scale and zero point of int8 between them, symmetric but for values that are never negative.

    Those, behind a ReLU mostly, have all 256 integers, as in Apple's own training: 1.6 dB on a trained EfficientViT-M0.
    coremltools then writes them as uint8 without a zero point. What it calls affine has zero points everywhere, which
    it calculates in float16: from 512 on they overflow.
    """
    import numpy as np

    low, high = map(float, bounds)
    step, zero = (high / 255, -128) if low >= 0 else (max(-low, high) / 127, 0)
    scale = bounds.dtype.type(step)
    # Of values that are zero in float16.
    return bounds, np.asarray(scale or bounds.dtype.type(1)), np.asarray(zero)
