"""Slower, faster, the same, or not to be told: what two configurations that took turns say about each other.

What decides is who was slower within each round, and that the order within it was drawn by lot. A machine that
slows down, or one whose neighbours are busy, then slows either by chance, and chance can be counted exactly (Abedi &
Brecht, *Conducting Repeatable Experiments in Highly Variable Cloud Computing Environments*, ICPE 2017).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Final, Literal

from .statistics import Interval, median_interval

PAIRS: Final = 10
P: Final = 0.01
CHANGE: Final = 0.03
ORDER_P: Final = 0.01
HISTORY_FACTOR: Final = 1.1
HISTORY_P: Final = 0.002
NOISE_SHARE: Final = 0.95
SCORE_UNIT: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one process took, nanoseconds per inference, and its place in time: the `order` is that in its round."""

    session: str
    round: int
    order: int
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the candidate is next to the baseline; `reason` says why that cannot be told.

    `change` is that of the typical round (+0.10: the candidate takes 10 % longer) with its 95 % interval. `p` is the
    chance of rounds that differ as much where nothing differs, None where they cannot be judged. `suspected` marks a
    slowdown that was not measured side by side.
    """

    kind: Literal["slower", "faster", "same", "inconclusive"]
    change: float | None
    interval: Interval | None
    p: float | None
    pairs: int
    reason: str = ""
    suspected: bool = False


def compare(baseline: Sequence[Reading], candidate: Sequence[Reading], *, noise_floor: float = 0.0) -> Verdict:
    """Judge the candidate by the rounds that both took part in.

    Slower or faster takes ten rounds, p < 0.01 and a change of more than 3 % and than the noise floor; the same takes
    ten rounds and a 95 % interval within ±3 %. Nothing is told where the order within the rounds was not random.
    """
    pairs = _pairs(baseline, candidate)
    if not pairs:
        return _without_rounds("not measured side by side")
    ratios = [new.value / old.value for old, new in pairs]
    interval = median_interval(ratios)
    found = Verdict(
        kind="inconclusive",
        # The median of two middle ratios is their geometric mean: twice as slow and twice as fast are no change.
        change=math.expm1(median(math.log(ratio) for ratio in ratios)),
        interval=interval and replace(interval, low=interval.low - 1, high=interval.high - 1),
        p=None,
        pairs=len(pairs),
    )
    if len(pairs) < PAIRS:
        return replace(found, reason=f"{len(pairs)} rounds side by side, a verdict takes {PAIRS}")
    first = sum(old.order < new.order for old, new in pairs)
    if _is_fixed(first, len(pairs)):
        return replace(found, reason=f"the baseline ran first in {first} of {len(pairs)} rounds, not by lot")
    return _judged(replace(found, p=_swap_p(_score_differences(pairs))), max(CHANGE, noise_floor))


def against_history(old: Sequence[float], new: Sequence[float]) -> Verdict:
    """What medians of processes say next to older ones: a suspicion at most, since the machine may have changed.

    Suspected is 1.1 times the old median or more with p < 0.002, by Mann and Whitney's two-sided test, the rule of
    airspeed velocity (asv). Six processes against six cannot reach that p.
    """
    from scipy.stats import mannwhitneyu

    reason = "not measured side by side"
    if not old or not new:
        return _without_rounds(reason)
    factor = median(new) / median(old)
    p = float(mannwhitneyu(old, new).pvalue)
    suspected = factor >= HISTORY_FACTOR and p < HISTORY_P
    if suspected:
        reason = f"suspected {factor:.2f} times as slow, but {reason}"
    elif 2 / math.comb(len(old) + len(new), len(new)) >= HISTORY_P:
        reason = f"{reason}, and too few processes for a suspicion"
    return replace(_without_rounds(reason), change=factor - 1, p=p, suspected=suspected)


def holm(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts that hold together: of many comparisons some differ by chance.

    Slower and faster become inconclusive where p, corrected for the number of comparisons that have one, is not
    below 0.01 (Holm, *A simple sequentially rejective multiple test procedure*, 1979).
    """
    corrected = list(verdicts)
    tested = sorted((verdict.p, number) for number, verdict in enumerate(verdicts) if verdict.p is not None)
    worst = 0.0
    for step, (p, number) in enumerate(tested):
        worst = max(worst, p * (len(tested) - step))
        if worst >= P and verdicts[number].kind in ("slower", "faster"):
            reason = f"may be chance among {len(tested)} comparisons, more rounds can tell"
            corrected[number] = replace(verdicts[number], kind="inconclusive", reason=reason)
    return corrected


def noise_floor(changes: Sequence[float]) -> float:
    """The size that 95 % of `changes` do not exceed, those of one or more comparisons of a thing with itself."""
    sizes = sorted(map(abs, changes))
    return sizes[math.ceil(NOISE_SHARE * len(sizes)) - 1]


def _without_rounds(reason: str) -> Verdict:
    return Verdict(kind="inconclusive", change=None, interval=None, p=None, pairs=0, reason=reason)


def _pairs(baseline: Sequence[Reading], candidate: Sequence[Reading]) -> list[tuple[Reading, Reading]]:
    turns = {(reading.session, reading.round): reading for reading in baseline}
    return [(turns[turn], reading) for reading in candidate if (turn := (reading.session, reading.round)) in turns]


def _is_fixed(first: int, rounds: int) -> bool:
    from scipy.stats import binomtest

    return bool(binomtest(first, rounds).pvalue < ORDER_P)


def _score_differences(pairs: Sequence[tuple[Reading, Reading]]) -> list[int]:
    """Candidate less baseline in each round, of the root of the rank among all readings, in hundredths.

    The root weighs the fast end more than ranks do, and less than their logarithm would: noise makes readings slow,
    never fast (Chen & Revels, *Robust benchmarking in noisy environments*, 2016). See docs/verdicts.md.
    """
    from scipy.stats import rankdata

    ranks = rankdata([old.value for old, _ in pairs] + [new.value for _, new in pairs])
    scores = [round(math.sqrt(rank) / SCORE_UNIT) for rank in ranks]
    return [new - old for old, new in zip(scores[: len(pairs)], scores[len(pairs) :], strict=True)]


def _swap_p(differences: Sequence[int]) -> float:
    """The share of all ways to swap the two within rounds whose differences add up to as much, either way. Exact.

    Nothing is assumed of the readings but that either of the two may have been the slower where nothing differs: not
    independence, no distribution, no absence of ties (Fisher's randomisation test for pairs).
    """
    import numpy as np

    sizes = [abs(difference) for difference in differences]
    # chances[s]: that the rounds in which the candidate is the slower add up to s
    chances = np.zeros(sum(sizes) + 1)
    chances[0] = 1.0
    for size in filter(None, sizes):
        moved = chances[:-size].copy()
        chances *= 0.5
        chances[size:] += 0.5 * moved
    sums = 2 * np.arange(len(chances)) - sum(sizes)
    return float(chances[np.abs(sums) >= abs(sum(differences))].sum())


def _judged(found: Verdict, margin: float) -> Verdict:
    if found.change is None or found.interval is None or found.p is None:
        return found
    if found.p < P and abs(found.change) > margin:
        return replace(found, kind="slower" if found.change > 0 else "faster")
    if found.interval.low >= -CHANGE and found.interval.high <= CHANGE:
        return replace(found, kind="same")
    if found.p < P:
        return replace(found, reason=f"it differs, but {found.change:+.1%} is within the noise of {margin:.1%}")
    return replace(
        found, reason=f"it may be anything from {found.interval.low:+.1%} to {found.interval.high:+.1%}, or chance"
    )
