"""A float program's weights, stored small: linear int8, or indices into a palette. The arithmetic stays in float."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from .toolkit import coremltools, quiet

# The small tensors are the sensitive ones: on a trained EfficientViT-M0 they cost 7 dB at int8, and 5 % of the bytes.
SMALLEST: Final = 2048
GROUP: Final = 16
BITS: Final = {"pal8": 8, "pal6": 6, "pal4": 4}


def quantize_weights(model: Any, *, smallest: int = SMALLEST, kept: Iterable[str] = ()) -> Any:
    """`model` with int8 weights, symmetric, one scale a channel; not below `smallest` elements, nor those `kept`."""
    optimize = _optimize()
    config = optimize.OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype="int8", granularity="per_channel", weight_threshold=smallest
    )
    configs = optimize.OptimizationConfig(global_config=config, op_name_configs=dict.fromkeys(kept))
    with quiet():
        return optimize.linear_quantize_weights(model, config=configs)


def palettize(model: Any, precision: str, *, grouped: bool) -> Any:
    """`model` with weights as indices into palettes that k-means chose, one a tensor, or one a group of channels."""
    optimize = _optimize()
    groups: dict[str, Any] = {"granularity": "per_grouped_channel", "group_size": GROUP} if grouped else {}
    config = optimize.OpPalettizerConfig(mode="kmeans", nbits=BITS[precision], weight_threshold=SMALLEST, **groups)
    with quiet():
        return optimize.palettize_weights(model, config=optimize.OptimizationConfig(global_config=config))


def _optimize() -> Any:
    coremltools()
    from coremltools.optimize import coreml

    return coreml
