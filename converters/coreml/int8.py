"""Calibrated int8 without a Mac: coremltools places and scales, the ranges come from the reference executor.

`linear_quantize_activations` lacks nothing on Linux but `predict`, which its ranges come from; here it is given them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from ..inspection import NEARLY_ALL
from . import compress
from .inspection import layers
from .program import Program, flattened
from .ranges import Ranges
from .toolkit import coremltools, quiet

# Sums carry the residual stream, whose range is wide: in integers they cost a trained EfficientViT-M0 1.6 dB.
IN_FLOAT: Final = ("add",)


def quantize(model: Any, program: Program, ranges: Ranges) -> Any:
    """`model`, saved as `program`, with int8 activations where Core ML has integer kernels, and int8 weights.

    `ranges` are by the names of the program's values; outputs stay as they are. Needs iOS 17.
    """
    coremltools()
    from coremltools.optimize import coreml

    known = {name: {"rmin": low, "rmax": high} for name, (low, high) in ranges.items() if name not in program.results}
    config = coreml.OptimizationConfig(
        global_config=coreml.OpLinearQuantizerConfig(mode="linear_symmetric"),
        op_type_configs=dict.fromkeys(IN_FLOAT),
        op_name_configs=dict.fromkeys(kept := _depthwise(program)),
    )
    with quiet(), _calibrated_by(known):
        activated = coreml.linear_quantize_activations(model, config, sample_data=[])
    return compress.quantize_weights(activated, smallest=0, kept=kept)


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
    from coremltools.optimize.coreml import _post_training_quantization as ptq

    own = ptq._get_activation_calibration_stats
    ptq._get_activation_calibration_stats = lambda *arguments: dict(known)
    try:
        yield
    finally:
        ptq._get_activation_calibration_stats = own
