"""How sure a share of right answers is, and whether two models differ on the same images. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from .statistics import CONFIDENCE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """`right` of `count` images, as a share in 0…1, with the Wilson interval from `low` to `high`."""

    right: int
    count: int
    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Against the original on the same images, by first classes.

    `lost`: the original right and this one wrong (McNemar's b); `gained`: the other way round (c); `p` is of the
    exact test; `agreeing`: the same first class, right or wrong; `points`: top-1 less the original's, in per cent of
    the images.
    """

    lost: int
    gained: int
    p: float
    agreeing: int
    points: float


def wilson(right: int, count: int) -> Share:
    """The share with its 95 % score interval; `count` is at least 1.

    The interval holds each share p that |right/count - p| = z·√(p(1 - p)/count) does not rule out (E. B. Wilson 1927,
    "Probable inference, the law of succession, and statistical inference", JASA 22, 209-212).
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share = right / count
    centre = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    # At the ends it is exact, and rounding must not say otherwise.
    low = 0.0 if right == 0 else (centre - half) / scale
    high = 1.0 if right == count else (centre + half) / scale
    return Share(right=right, count=count, share=share, low=low, high=high)


def mcnemar(lost: int, gained: int) -> float:
    """The exact two-sided p of `lost` and `gained` images, if a change were as likely one way as the other.

    Twice the smaller tail of Binomial(lost + gained, 1/2), at most 1 (Q. McNemar 1947, "Note on the sampling error of
    the difference between correlated proportions or percentages", Psychometrika 12, 153-157; with the binomial
    distribution in the place of his chi-squared one).
    """
    count = lost + gained
    ways = tail = 1
    for k in range(min(lost, gained)):
        ways = ways * (count - k) // (k + 1)
        tail += ways
    # Whole numbers of any size divide exactly, where floats would have become zero.
    p: float = 2 * tail / (1 << count)
    return min(1.0, p)


def share(top: NDArray[np.int64], labels: NDArray[np.int64]) -> Share:
    """Of how many images the label is among `top`, int64 (n, k), where -1 is no class."""
    return wilson(int((top == labels[:, None]).any(axis=1).sum()), len(labels))


def paired(first: NDArray[np.int64], original: NDArray[np.int64], labels: NDArray[np.int64]) -> Paired:
    """Two models' first classes of the same images, int64 (n,), where -1 is no class."""
    right, before = first == labels, original == labels
    lost, gained = int((before & ~right).sum()), int((right & ~before).sum())
    return Paired(
        lost=lost,
        gained=gained,
        p=mcnemar(lost, gained),
        agreeing=int(((first == original) & (first >= 0)).sum()),
        points=100 * (gained - lost) / len(labels),
    )
