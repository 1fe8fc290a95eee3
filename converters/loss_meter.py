"""Sums over images of what each operator of a quantized file loses, one image in memory at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from . import loss_marks
from .histogram import Extremes, Histogram
from .losses import (
    Bars,
    Factor,
    Loss,
    Losses,
    Operator,
    OutputLoss,
    Picture,
    Probe,
    Values,
    WeightLoss,
    sqnr_db,
    worst,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS: Final = 48
# Of the energy of a layer's strongest channel: weaker ones are dead, and their few bits are no loss.
LEAST_SHARE: Final = 1e-4


def measure(
    probe: Probe, feeds: Iterable[NDArray[Any]], answers: Callable[[NDArray[Any]], Sequence[NDArray[Any]]]
) -> Losses:
    """Run the probe on every feed, one at a time; `answers` gives the original model's outputs for one."""
    meters = [(Meter(operator, spread := Histogram("mse")), spread) for operator in probe.operators]
    outputs, images = _Outputs(), 0
    for feed in feeds:
        images += 1
        run = probe.run(feed)
        for (meter, _), values in zip(meters, run.values, strict=True):
            meter.add(values)
        if run.outputs is not None:
            outputs.add(answers(feed), run.outputs)
    losses = [meter.loss() for meter, _ in meters]
    return Losses(
        images=images,
        output=outputs.loss() if outputs.count else None,
        operators=tuple(losses),
        pictures=tuple(_picture(place, meters[place][1], probe.operators[place].factor) for place in worst(losses)),
        left_out=tuple(probe.left_out),
        notes=tuple(probe.notes),
    )


class Meter:
    """Sums over the images for one operator; `spread` sees the float form's values."""

    def __init__(self, operator: Operator, spread: Extremes) -> None:
        self.operator = operator
        self.spread = spread
        self.signal = self.alone = self.along = 0.0
        self.signal_held = self.alone_held = 0.0
        self.runs = True
        self.outside = self.count = 0

    def add(self, values: Values) -> None:
        """See one image."""
        import numpy as np

        meant = values.meant.astype(np.float64)
        if not meant.size:
            return
        self.count += meant.size
        self.spread.add(values.meant)
        power, noise = np.square(meant), np.square(meant - values.isolated)
        self.signal += float(power.sum())
        if not self.operator.moves:
            self.alone += float(noise.sum())
        self.runs = values.found is not None
        if values.found is not None:
            self.along += float(np.square(meant - values.found).sum())
        grid = self.operator.grid
        if grid is not None:
            held = (meant >= grid.low - grid.step / 2) & (meant <= grid.high + grid.step / 2)
            self.outside += meant.size - int(held.sum())
            self.signal_held += float(power.sum(where=held))
            self.alone_held += float(noise.sum(where=held))

    def loss(self, *, calibrated_by: str = "") -> Loss:
        """Of the images so far; `calibrated_by` is the method of the calibration where they are some of its images."""
        operator, grid = self.operator, self.operator.grid
        weight = _weight_loss(operator.factor) if operator.factor else None
        clipped = self.outside / self.count if self.count else 0.0
        isolated = sqnr_db(self.signal, self.alone)
        said = [operator.remark, loss_marks.of_weights(weight)]
        if grid is not None and not operator.moves:
            seen = self.spread.low, self.spread.high
            kept = loss_marks.Kept(
                isolated_db=sqnr_db(self.signal_held, self.alone_held),
                steps=math.sqrt(self.alone_held / max(self.count - self.outside, 1)) / grid.step,
            )
            said.append(loss_marks.of_rounding(kept))
            if not operator.fixed:
                said.append(loss_marks.of_width(grid, seen))
                said.append(loss_marks.of_clipping(grid, seen, clipped, isolated_db=isolated, method=calibrated_by))
        remark = "; ".join(part for part in said if part)
        return Loss(
            name=operator.name,
            kind=operator.kind,
            arithmetic=operator.arithmetic,
            isolated_db=isolated,
            propagated_db=sqnr_db(self.signal, self.along) if self.runs else None,
            seen=(self.spread.low, self.spread.high),
            held=(grid.low, grid.high) if grid else None,
            clipped=clipped,
            weight=weight,
            remark=remark,
            suspicious=bool(remark),
        )


def _picture(place: int, spread: Histogram, factor: Factor | None) -> Picture:
    import numpy as np

    low, high = spread.low, spread.high
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        activation = Bars(low=0.0, high=0.0, meant=())
    else:
        counts, centres = spread.bins
        bars, _ = np.histogram(centres.clip(low, high), BINS, (low, high), weights=counts)
        activation = Bars(low=low, high=high, meant=_shares(bars))
    return Picture(place=place, activation=activation, weight=_weight_bars(factor) if factor else None)


def _weight_loss(factor: Factor) -> WeightLoss:
    import numpy as np

    meant, found = factor.meant.astype(np.float64), factor.found.astype(np.float64)
    others = tuple(place for place in range(meant.ndim) if place != factor.axis)
    signal, noise = np.square(meant).sum(others), np.square(meant - found).sum(others)
    least = signal.max(initial=0.0) * LEAST_SHARE
    channels = [sqnr_db(float(s), float(n)) if s > least else math.inf for s, n in zip(signal, noise, strict=True)]
    lowest = min(range(len(channels)), key=channels.__getitem__)
    return WeightLoss(
        name=factor.name,
        dtype=factor.dtype,
        sqnr_db=sqnr_db(float(signal.sum()), float(noise.sum())),
        worst_channel=lowest,
        worst_channel_db=channels[lowest],
    )


def _weight_bars(factor: Factor) -> Bars:
    import numpy as np

    both = np.concatenate([factor.meant.ravel(), factor.found.ravel()])
    low, high = float(both.min()), float(both.max())
    bars = [np.histogram(part, BINS, (low, high))[0] for part in (factor.meant, factor.found)]
    return Bars(low=low, high=high, meant=_shares(bars[0]), found=_shares(bars[1]))


def _shares(counts: NDArray[Any]) -> tuple[float, ...]:
    return tuple((counts / max(counts.sum(), 1)).tolist())


class _Outputs:
    def __init__(self) -> None:
        self.signal = self.noise = 0.0
        self.agreeing = self.count = 0

    def add(self, wanted: Sequence[NDArray[Any]], found: Sequence[NDArray[Any]]) -> None:
        import numpy as np

        for want, got in zip(wanted, found, strict=True):
            self.signal += float(np.square(want.astype(np.float64)).sum())
            self.noise += float(np.square(want.astype(np.float64) - got).sum())
        self.agreeing += int(wanted[0].argmax() == found[0].argmax())
        self.count += 1

    def loss(self) -> OutputLoss:
        return OutputLoss(sqnr_db=sqnr_db(self.signal, self.noise), agreeing=self.agreeing)
