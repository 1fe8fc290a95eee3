"""Pictures of what quantization cost, as SVG: the page's own colours, so that they fit light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from .drawing import FIRST, SECOND, TEXT, THIRD, drawn

if TYPE_CHECKING:
    from ...converters.losses import Bars, Loss

MOST_DB: Final = 80.0


def all_operators(operators: Sequence[Loss]) -> str:
    """SQNR of every operator in the order of the file, alone as bars and with the errors before it as a line."""
    with drawn(9, 2.8) as (axes, finished):
        places = range(len(operators))
        axes.bar(places, [_shown(loss.isolated_db) for loss in operators], width=1.0, color=FIRST, label="isolated")
        if all(loss.propagated_db is not None for loss in operators):
            shown = [_shown(loss.propagated_db or 0.0) for loss in operators]
            axes.plot(places, shown, color=SECOND, linewidth=1.2, label="propagated")
        axes.set_xlim(-1, len(operators))
        axes.set_xlabel("operator, in the order of the file")
        axes.set_ylabel("SQNR, dB")
        axes.legend(frameon=False, fontsize=8, labelcolor=TEXT, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    return finished[0]


def weights(bars: Bars) -> str:
    """A layer's weights in the float form, and as the file has them as a line."""
    with drawn(4.2, 2) as (axes, finished):
        edges = _edges(bars)
        axes.stairs(bars.meant, edges, fill=True, color=FIRST, label="float")
        if bars.found is not None:
            axes.stairs(bars.found, edges, color=SECOND, linewidth=1.2, label="quantized")
        axes.set_yscale("symlog", linthresh=1e-4)
        axes.set_xlabel("weight")
        axes.set_ylabel("share")
        axes.legend(frameon=False, fontsize=8, labelcolor=TEXT)
    return finished[0]


def activations(bars: Bars, held: tuple[float, float] | None) -> str:
    """The values of a result in the float form, between the ends of what its integers can be."""
    with drawn(4.2, 2) as (axes, finished):
        axes.stairs(bars.meant, _edges(bars), fill=True, color=FIRST)
        for bound in held or ():
            axes.axvline(bound, color=THIRD, linewidth=1.4, linestyle="--")
        axes.set_yscale("symlog", linthresh=1e-4)
        axes.set_ylabel("share")
        axes.set_xlabel("value" if held is None else "value, and the range of the integers")
    return finished[0]


def _shown(value: float) -> float:
    """What is drawn of an SQNR: nothing where nothing is lost, and no more than the axis holds."""
    return math.nan if value == math.inf else min(max(value, 0.0), MOST_DB)


def _edges(bars: Bars) -> Sequence[float]:
    width = (bars.high - bars.low) / max(len(bars.meant), 1)
    return [bars.low + width * index for index in range(len(bars.meant) + 1)]
