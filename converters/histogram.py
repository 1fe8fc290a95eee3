"""How the values of a tensor are spread, in constant memory, and the range that its integers are best scaled to.

Four ways to choose the range, as the field names them: `minmax` keeps every value (`Extremes`); `percentile` leaves
out the share `OUTLIERS` at either end; `mse` takes the range with the least squared error; `entropy` the one with the
least Kullback-Leibler divergence between values and integers (Migacz, "8-bit inference with TensorRT", GTC 2017).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Counts = NDArray[np.int64]
    Centres = NDArray[np.float64]

BINS: Final = 4096
LEVELS: Final = 256
OUTLIERS: Final = 1e-4
TINY: Final = 1e-12
# What `entropy` may leave out at most.
MOST_CUT: Final = 0.1
# Below, the number of bins over their width is no float32 any more.
NARROWEST: Final = 2.0**-100
# Of the full range, the parts that are tried.
SHARES: Final = tuple(1 - 0.01 * step for step in range(80))


class Extremes:
    """The least and the largest of a tensor's values; NaN where one was NaN."""

    def __init__(self) -> None:
        self.low = math.inf
        self.high = -math.inf

    def add(self, values: NDArray[Any]) -> None:
        """See all elements of a float array of any shape but an empty one."""
        import numpy as np

        # Not `min`, which forgets a NaN that was there before.
        self.low = float(np.minimum(self.low, values.min()))
        self.high = float(np.maximum(self.high, values.max()))

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the largest value that integers should hold."""
        return self.low, self.high


class Histogram(Extremes):
    """Counts of a tensor's values in equal bins around zero, whose width doubles whenever a value lies outside."""

    def __init__(self, method: str) -> None:
        import numpy as np

        super().__init__()
        self._method = METHODS[method]
        self._reach = 0.0
        self._counts: Counts = np.zeros(BINS, np.int64)

    def add(self, values: NDArray[Any]) -> None:
        """See and count all elements of a float array of any shape but an empty one."""
        import numpy as np

        super().add(values)
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            return
        self._widen(max(-self.low, self.high))
        flat = np.asarray(values, np.float32).ravel()
        places = ((flat + np.float32(self._reach)) * np.float32(BINS / (2 * self._reach))).astype(np.int32)
        self._counts += np.bincount(places.clip(0, BINS - 1), minlength=BINS)

    @property
    def bounds(self) -> tuple[float, float]:
        """What the method chooses, zero included; all values where they are all zero, or one is not finite."""
        low, high = self.full
        return (
            self._method(self) if math.isfinite(low) and math.isfinite(high) and low < high else (self.low, self.high)
        )

    def _widen(self, reach: float) -> None:
        import numpy as np

        if self._reach == 0:
            # A power of two, so that the same values give the same bins in any order.
            self._reach = 2.0 ** math.ceil(math.log2(max(reach, NARROWEST)))
        while self._reach < reach:
            merged = self._counts.reshape(-1, 2).sum(1)
            self._counts = np.pad(merged, BINS // 4)
            self._reach *= 2

    @property
    def full(self) -> tuple[float, float]:
        """The range of all values, zero included."""
        return min(self.low, 0.0), max(self.high, 0.0)

    @property
    def bins(self) -> tuple[Counts, Centres]:
        """Counts and centres of the bins that the full range reaches."""
        import numpy as np

        width = 2 * self._reach / BINS
        centres = (np.arange(BINS) + 0.5) * width - self._reach
        low, high = self.full
        reached = (centres > low - width) & (centres < high + width)
        return self._counts[reached], centres[reached]


def _percentile(histogram: Histogram) -> tuple[float, float]:
    import numpy as np

    counts, centres = histogram.bins
    share = np.cumsum(counts) / counts.sum()
    low, high = centres[np.searchsorted(share, OUTLIERS)], centres[np.searchsorted(share, 1 - OUTLIERS)]
    # A bin's centre may lie outside of the values in it.
    return max(min(float(low), 0.0), histogram.full[0]), min(max(float(high), 0.0), histogram.full[1])


def _mse(histogram: Histogram) -> tuple[float, float]:
    counts, centres = histogram.bins
    return min(_candidates(histogram), key=lambda bounds: _squared_error(counts, centres, bounds))


def _squared_error(counts: Counts, centres: Centres, bounds: tuple[float, float]) -> float:
    import numpy as np

    low, high = bounds
    step = (high - low) / (LEVELS - 1)
    kept = np.round((centres.clip(low, high) - low) / step) * step + low
    return float((counts * (centres - kept) ** 2).sum())


def _entropy(histogram: Histogram) -> tuple[float, float]:
    counts, centres = histogram.bins
    return min(_candidates(histogram), key=lambda bounds: _divergence(counts, centres, bounds))


def _divergence(counts: Counts, centres: Centres, bounds: tuple[float, float]) -> float:
    """Σ p·log(p/q) of the values p, outliers counted at the ends, and of q, even over the bins of one integer."""
    import numpy as np

    low, high = bounds
    inside = (centres >= low) & (centres <= high)
    # With nearly all values at one end, they and the integers would agree perfectly.
    if counts[inside].sum() < (1 - MOST_CUT) * counts.sum():
        return math.inf
    kept = counts[inside].astype(np.float64)
    p = kept.copy()
    p[0] += counts[centres < low].sum()
    p[-1] += counts[centres > high].sum()
    levels = np.round((centres[inside] - low) / ((high - low) / (LEVELS - 1))).astype(np.int64)
    used = kept > 0
    mass = np.bincount(levels, weights=kept, minlength=LEVELS)
    shared = np.bincount(levels, weights=used, minlength=LEVELS)
    q = np.where(used, mass[levels] / np.maximum(shared[levels], 1), 0)
    p, q = p / p.sum(), q / max(q.sum(), 1)
    # Outliers may be counted at an end where no value was: q knows nothing of them, which is dear and not infinite.
    return float((p[p > 0] * np.log(p[p > 0] / np.maximum(q[p > 0], TINY))).sum())


def _candidates(histogram: Histogram) -> list[tuple[float, float]]:
    """Ranges cut at the same distance from zero on both sides, so that the longer side is cut first."""
    low, high = histogram.full
    reach = max(-low, high)
    return [(max(low, -reach * share), min(high, reach * share)) for share in SHARES]


METHODS: Final[Mapping[str, Callable[[Histogram], tuple[float, float]]]] = {
    "percentile": _percentile,
    "mse": _mse,
    "entropy": _entropy,
}
NAMES: Final = ("minmax", *METHODS)


def tally(method: str) -> Extremes:
    """What sees a tensor's values for one of `NAMES`."""
    return Extremes() if method == "minmax" else Histogram(method)
