"""At the end of a conversion: proof that no operator of the written file has a wrong scale, weight or bias.

Each operator is given the float form's values, so a fault is charged to who has it and no later rounding hides it. The
gate cannot see this: with one deep scale 16 times too large the answers are hardly worse than without.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from ..models.errors import ParityFailed
from .histogram import Extremes
from .loss_meter import Meter
from .losses import Loss, Probe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .conversion import Conversion

COUNT: Final = 2
REPORT: Final = "this is a fault of the converter: take another precision, and report it"


def prove(probe: Probe, conversion: Conversion) -> None:
    """Look at every operator alone, on calibration images; raises `ParityFailed`, with the first that is wrong.

    Two images tell, unless a tensor is rarely as large as the calibration saw it: while an operator is suspicious,
    further images are looked at, in the end all of them, which the ranges are from.
    """
    assert conversion.calibration is not None  # `plan` gives one to what is calibrated
    suspicious = _suspicious(probe, _feeds(conversion), conversion.calibration.method)
    if suspicious:
        first, others = suspicious[0], len(suspicious) - 1
        more = f"; and {others} more" if others else ""
        raise ParityFailed(f"{first.name} ({first.kind}) of the written file is wrong: {first.remark}{more}", REPORT)


def _suspicious(probe: Probe, feeds: Iterable[NDArray[Any]], method: str) -> list[Loss]:
    meters = [Meter(operator, Extremes()) for operator in probe.operators]
    found = list[Loss]()
    for count, feed in enumerate(feeds, 1):
        for meter, values in zip(meters, probe.alone(feed), strict=True):
            if meter.operator.grid is not None:
                meter.add(values)
        if count < COUNT:
            continue
        losses = [meter.loss(calibrated_by=method) for meter in meters]
        found = [loss for loss in losses if loss.suspicious]
        if not found:
            break
    return found


def _feeds(conversion: Conversion) -> Iterator[NDArray[Any]]:
    """The calibration's images, prepared here again: so the ranges that a wrong preparation gave are seen as such."""
    spec = conversion.spec
    assert conversion.calibration is not None
    return (spec.preprocess.normalise(pixels[None]) for pixels in conversion.calibration.pixels(spec))
