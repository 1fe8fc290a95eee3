"""`mixed`: int8 where it is harmless. What each operator costs is measured on the outputs; the costliest stay float.

One algorithm for every target: first each operator alone is int8 and all others float; then they are taken out of int8
one after another, the costliest first, as far as a budget of multiplications allows. What does not measurably help in
the company of those before it goes back, since errors of neighbours do not simply add up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol

from ..models.errors import ConversionFailed, PrecisionNotMet, Unsupported
from .inspection import MOST

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .conversion import Conversion
    from .inspection import Inspection

TRIALS: Final = 32
# How many operators are tried in float, and the least part of the noise that one must take away to stay so.
TRIED: Final = 48
LEAST_GAIN: Final = 0.02
OPTIONS: Final[Mapping[str, Any]] = {"min-int8-macs": 0.9, "max-drop": None}


class Mixable(Protocol):
    """A float graph whose ranges are known: any of its operators can be int8, and the others float."""

    @property
    def macs(self) -> Mapping[str, int]:
        """The operators that int8 takes, by name in the order of a run, with their MACs at batch 1."""

    @property
    def float_macs(self) -> int:
        """MACs at batch 1 of what stays float at int8 too."""

    def answers(self, integer: Collection[str]) -> NDArray[Any]:
        """The first output for the trial images, (n, elements), with the operators `integer` in int8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """`least_int8` of all MACs, from 0 to 1, stay int8; of the trial images `most_changed` may get another first class.

    Without the latter, as many operators become float as help and as the former allows.
    """

    least_int8: float
    most_changed: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An operator that stays float: its share of the MACs, and the output's SQNR in dB.

    `alone_db` with this operator as the only one in int8; `before_db` and `after_db` when it was taken out of int8.
    """

    name: str
    share: float
    alone_db: float
    before_db: float
    after_db: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What stays float, the share of the MACs in int8 then, and what that costs on the trial images.

    `changed` is the share of them whose first class is another one than the float graph's, `alone_db` the output's SQNR
    by the operator that alone is int8.
    """

    kept: tuple[Kept, ...]
    int8_share: float
    plain_db: float
    db: float
    changed: float
    alone_db: Mapping[str, float]

    @property
    def names(self) -> frozenset[str]:
        """Of the operators that stay float."""
        return frozenset(each.name for each in self.kept)

    @property
    def notes(self) -> list[str]:
        """For people: the result, and each operator that stayed float with the reason."""
        result = (
            f"mixed: {self.int8_share:.1%} of the MACs in int8, SQNR {self.plain_db:.1f} → {self.db:.1f} dB, "
            f"another first class on {self.changed:.1%} of the images that were tried"
        )
        reasons = (
            f"in float: {each.name} ({each.share:.2%} of the MACs), alone in int8 {each.alone_db:.1f} dB; "
            f"without it {each.before_db:.1f} → {each.after_db:.1f} dB"
            for each in self.kept
        )
        return [result, *reasons]


def check(conversion: Conversion) -> None:
    """Raises `Unsupported` for a budget that cannot be, or that means nothing to the precision."""
    least, drop = (conversion.options[name] for name in OPTIONS)
    if not MOST <= least <= 1:
        raise Unsupported(f"--min-int8-macs {least:.0%} is not possible", f"give a share from {MOST:.0%} to 100%")
    if drop is not None and not 0 <= drop <= 100:
        raise Unsupported(f"--max-drop {drop:g} is not possible", "give points of accuracy such as 0.5")
    given = [name for name, usual in OPTIONS.items() if conversion.options[name] != usual]
    if given and conversion.precision != "mixed":
        raise Unsupported(f"--{given[0]} means nothing to {conversion.precision}", "add --precision mixed")


def budget_of(conversion: Conversion) -> Budget:
    """What the options allow: points of accuracy can be lost only where the first class changes."""
    drop = conversion.options["max-drop"]
    return Budget(least_int8=conversion.options["min-int8-macs"], most_changed=None if drop is None else drop / 100)


def trials(conversion: Conversion) -> list[NDArray[Any]]:
    """Some of the calibration images, spread over all, as the model's inputs: float32 (1, channels, height, width)."""
    assert conversion.calibration is not None  # `plan` gives one to what is calibrated
    step = max(1, conversion.calibration.count // TRIALS)
    return list(islice(conversion.calibration_feeds(), 0, step * TRIALS, step))


def choose(form: Mixable, budget: Budget, *, on_step: Callable[[str], None] = lambda step: None) -> Choice:
    """The operators of `form` that should stay float under `budget`.

    Raises `PrecisionNotMet` where the budget cannot be kept, and `ConversionFailed` without an operator for int8, or
    where an answer is not finite.
    """
    chosen = _Search(form, budget, on_step).run()
    if chosen.int8_share < budget.least_int8:
        raise PrecisionNotMet(
            f"mixed: {_percent(chosen.int8_share)} of the MACs can be int8 at most, less than {budget.least_int8:.1%}",
            "allow a lower --min-int8-macs",
        )
    if budget.most_changed is not None and chosen.changed > budget.most_changed:
        raise PrecisionNotMet(
            f"mixed: with {chosen.int8_share:.1%} of the MACs in int8, {chosen.changed:.1%} of the images that were "
            f"tried get another first class, more than {budget.most_changed:.1%}",
            "allow a lower --min-int8-macs, or a larger --max-drop",
        )
    return chosen


def verify(inspection: Inspection, budget: Budget) -> None:
    """Raises `PrecisionNotMet` for a written file with less in int8 than was promised."""
    if inspection.int8_share < budget.least_int8:
        raise PrecisionNotMet(
            f"mixed: the file has {_percent(inspection.int8_share)} of its MACs in int8, "
            f"less than {budget.least_int8:.1%}"
        )


class _Search:
    def __init__(self, form: Mixable, budget: Budget, on_step: Callable[[str], None]) -> None:
        self.form = form
        self.budget = budget
        self.on_step = on_step
        self.everything = frozenset(form.macs)
        self.total = sum(form.macs.values()) + form.float_macs
        if not self.everything or not self.total:
            raise ConversionFailed("there is no operator that int8 could take", "take --precision fp32")
        self.spare = self.total - math.ceil(budget.least_int8 * self.total) - form.float_macs
        self.kept: list[Kept] = []

    @cached_property
    def meant(self) -> NDArray[Any]:
        return self.form.answers(frozenset())

    def run(self) -> Choice:
        alone = dict(self._alone())
        answers = self.form.answers(self.everything)
        plain = now = noise(self.meant, answers)
        for name in sorted(alone, key=alone.__getitem__, reverse=True)[:TRIED]:
            # What is less alone cannot take the least gain away: a fall of the noise would be luck.
            if self._is_enough(answers) or alone[name] < LEAST_GAIN * now:
                break
            if self.form.macs[name] > self.spare:
                continue
            self.on_step(f"trying {name} in float, {decibels(now):.1f} dB so far")
            found = self.form.answers(self.everything - self._names - {name})
            less = noise(self.meant, found)
            if less <= (1 - LEAST_GAIN) * now:
                self._keep(name, alone[name], now, less)
                answers, now = found, less
        return Choice(
            kept=tuple(self.kept),
            int8_share=sum(macs for name, macs in self.form.macs.items() if name not in self._names) / self.total,
            plain_db=decibels(plain),
            db=decibels(now),
            changed=self._changed(answers),
            alone_db={name: decibels(each) for name, each in alone.items()},
        )

    def _alone(self) -> Iterator[tuple[str, float]]:
        for index, name in enumerate(self.form.macs, 1):
            self.on_step(f"measuring what each operator costs in int8, {index} of {len(self.everything)}")
            yield name, noise(self.meant, self.form.answers({name}))

    def _keep(self, name: str, alone: float, before: float, after: float) -> None:
        self.spare -= self.form.macs[name]
        self.kept.append(
            Kept(
                name=name,
                share=self.form.macs[name] / self.total,
                alone_db=decibels(alone),
                before_db=decibels(before),
                after_db=decibels(after),
            )
        )

    @property
    def _names(self) -> frozenset[str]:
        return frozenset(each.name for each in self.kept)

    def _is_enough(self, answers: NDArray[Any]) -> bool:
        most = self.budget.most_changed
        return most is not None and self._changed(answers) <= most

    def _changed(self, answers: NDArray[Any]) -> float:
        return float((answers.argmax(-1) != self.meant.argmax(-1)).mean())


def _percent(share: float) -> str:
    """Rounded down: what is just too little must not read as enough."""
    return f"{math.floor(share * 1e4) / 100:.2f}%"


def noise(meant: NDArray[Any], found: NDArray[Any]) -> float:
    """Σ (meant - found)² / Σ meant² over all samples; raises `ConversionFailed` where it is not finite."""
    import numpy as np

    wanted = meant.astype(np.float64)
    error, power = float(np.square(wanted - found).sum()), float(np.square(wanted).sum())
    if not math.isfinite(error + power):
        raise ConversionFailed("an answer on a calibration image is not finite", "look at the images")
    return error / power if power else error


def decibels(noise: float) -> float:
    """SQNR = -10·log10(noise) in dB; infinite without noise."""
    return -10 * math.log10(noise) if noise > 0 else math.inf
