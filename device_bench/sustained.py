"""What lasting load did to the latency. Pure: a record in, numbers out."""

from __future__ import annotations

from statistics import median
from typing import Final

from .record import Sustained

MINUTE_S: Final = 60.0
# What single windows differ by without any throttling must not count, nor one slow window.
SLOWER: Final = 1.05
LASTING_WINDOWS: Final = 3


def slowdown(load: Sustained) -> float | None:
    """The last minute's latency over the first's, 1.2 for a fifth slower; None for less than two minutes.

    A minute's is the median of its windows'.
    """
    count = _minute(load)
    if len(load.medians_ns) < 2 * count:
        return None
    return median(load.medians_ns[-count:]) / median(load.medians_ns[:count])


def throttle_onset_s(load: Sustained) -> float | None:
    """Seconds from the start to where latency rose by 5 % over the first minute's for three windows or more.

    None if it never did. A machine that throttles within half a minute has no cool minute to be compared with.
    """
    limit = SLOWER * median(load.medians_ns[: _minute(load)])
    for first in range(len(load.medians_ns) - LASTING_WINDOWS + 1):
        if min(load.medians_ns[first : first + LASTING_WINDOWS]) > limit:
            return first * load.window_s
    return None


def _minute(load: Sustained) -> int:
    return max(1, int(MINUTE_S // load.window_s))
