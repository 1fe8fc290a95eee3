"""Waiting until a device has cooled down: a hot one slows down, and what it says then is of its cooler."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from .device import Device
from .journal import Entry
from .record import Conditions

# A chip that has worked is warmer than one that has not; beyond this, it is still warm from the trials before.
WARMER_C: Final = 10.0
PAUSE_S: Final = 2.0
# A Raspberry Pi's bits of the moment: a low voltage slows it down too, and no waiting mends that.
LOW_VOLTAGE: Final = 0b0001
THROTTLED: Final = 0b1100
# Of Android's 0 to 6: from moderate on the system slows down.
LIGHT: Final = 1


def await_cool(
    entries: Sequence[Entry],
    device: Device,
    *,
    patience_s: float,
    require_wanted: Callable[[], None] = lambda: None,
) -> None:
    """Wait until `device` is at most 10 °C warmer than before the first of `entries`, at most `patience_s` seconds.

    Nothing is waited for where the device tells no temperature, or was not warm after the last of them.
    """
    pairs = [(entry.timing.before, entry.timing.after) for entry in entries if entry.timing]
    first = next((before.temperature_c for before, _ in pairs if before and before.temperature_c is not None), None)
    last = pairs[-1][1].temperature_c if pairs and pairs[-1][1] else None
    if first is None or last is None:
        return
    give_up = time.monotonic() + patience_s
    now: float | None = last
    while now is not None and now > first + WARMER_C and time.monotonic() < give_up:
        require_wanted()
        time.sleep(PAUSE_S)
        now = device.info().temperature_c


def was_hot(entry: Entry) -> bool:
    """Whether the device says that it slowed itself down for its heat during a trial."""
    after: Conditions | None = entry.timing.after if entry.timing else None
    if after is None:
        return False
    bits = after.throttled or 0
    return bool(bits & THROTTLED and not bits & LOW_VOLTAGE) or (after.thermal_status or 0) > LIGHT
