"""What marks an operator of a quantized file as suspicious: that rounding does not explain what it loses.

Errors inside of the integers' range and values outside are judged apart, since a calibration may clip on purpose. An
error of a few steps is never held against a file, however small the values: whether the steps are right is a question
of the range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .losses import Grid, WeightLoss

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What honest files have beside each: docs/quant-report.md.
SUSPICIOUS_DB: Final = 10.0
SUSPICIOUS_STEPS: Final = 4.0
SUSPICIOUS_CHANNEL_DB: Final = 15.0
# A sixteenth of the whole range: more than rounding costs, however good the SQNR is.
MOST_STEPS: Final = 16.0
# Of what the integers reach beside what was seen, and of what was seen beside what they reach.
WIDEST: Final = 8.0
# Of the values, where the calibration was on other images, or cuts some off.
CLIPPED: Final = 0.02
# Of the values of calibration images, whose range is to hold all of them.
CLIPPED_ANYWAY: Final = 1e-3
# Of the scale of a bias beside that of its products: what TFLite's own kernels allow.
NEAR: Final = 0.02
EIGHT_BITS: Final = ("int8", "uint8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Of the values inside of the integers' range: SQNR, and the root mean square error in steps of the integers."""

    isolated_db: float
    steps: float


def of_rounding(kept: Kept) -> str:
    """What to say of values inside of the range that come out as others."""
    if kept.steps <= (MOST_STEPS if kept.isolated_db >= SUSPICIOUS_DB else SUSPICIOUS_STEPS):
        return ""
    return f"values inside of its range have {kept.isolated_db:.1f} dB, an error of {kept.steps:.3g} steps"


def of_width(grid: Grid, seen: tuple[float, float]) -> str:
    """What to say of integers that are hardly used, so that the step between them is too large."""
    width = max(seen[1], 0.0) - min(seen[0], 0.0)
    if not width > 0 or grid.high - grid.low <= WIDEST * width:
        return ""
    times = (grid.high - grid.low) / width
    return f"the integers reach {times:.0f} × as far as the values: {_ranges(grid, seen)}"


def of_clipping(grid: Grid, seen: tuple[float, float], clipped: float, *, isolated_db: float, method: str) -> str:
    """What to say of values that the integers cannot hold.

    `method` is the calibration's, if these are some of its images. What the methods cut off on purpose is no fault:
    `percentile` few values, `mse` none that cost much, and `entropy` as many as it likes, but at a fifth of the range.
    """
    if clipped <= (CLIPPED_ANYWAY if method == "minmax" else CLIPPED):
        return ""
    explained = {
        "minmax": False,
        "percentile": False,
        "entropy": max(-grid.low, grid.high) * WIDEST >= max(-seen[0], seen[1]),
    }
    if explained.get(method, isolated_db >= SUSPICIOUS_DB):
        return ""
    return f"{clipped:.1%} of the values are cut off, {isolated_db:.1f} dB: {_ranges(grid, seen)}"


def of_weights(weight: WeightLoss | None) -> str:
    """What to say of a channel; only of 8 bits: a palette of 16 weights may lose that much."""
    if weight is None or weight.dtype not in EIGHT_BITS or weight.worst_channel_db >= SUSPICIOUS_CHANNEL_DB:
        return ""
    return f"channel {weight.worst_channel} of the weights {weight.name} has {weight.worst_channel_db:.1f} dB"


def of_bias(x: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any]) -> str:
    """What to say of scales, of which the bias's is to be the product of the others: integer kernels take it to be."""
    import numpy as np

    ratio = bias / (x * weight)
    far = ratio.flat[np.abs(ratio - 1).argmax()]
    return f"the bias has {far:.3g} × the scale of its products" if abs(far - 1) > NEAR else ""


def _ranges(grid: Grid, seen: tuple[float, float]) -> str:
    return f"held {grid.low:.4g} to {grid.high:.4g}, seen {seen[0]:.4g} to {seen[1]:.4g}"
