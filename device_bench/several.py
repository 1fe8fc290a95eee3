"""A plan a device, on several devices side by side: each in a thread of its own, from its first turn to its last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event

from ..models.errors import DeviceFailed
from . import journal, plan
from .device import Device
from .holding import held
from .job import Foreign
from .journal import Journal
from .plan import Plan, Step
from .record import Failure
from .result import Result
from .session import RUNTIMES, Elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Lot:
    """What is measured on one device, whose name is `address`; `kept` is where its journal is, None for nowhere."""

    plan: Plan
    device: Device
    address: str
    kept: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a lot ended: with `lost`, what was measured until its device failed, and why it did."""

    results: Sequence[Result]
    lost: DeviceFailed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Who is told of what goes on: the number of the lot, and its next step, or that another run has its device."""

    on_step: Callable[[int, Step], None] = lambda lot, step: None
    on_wait: Callable[[int], None] = lambda lot: None


@dataclass(frozen=True, slots=True)
class _Stop:
    """Whether somebody has ended all lots."""

    event: Event = field(default_factory=Event)

    def require_wanted(self) -> None:
        if self.event.is_set():
            raise DeviceFailed("the run was ended")


def offered(device: Device) -> list[str]:
    """The runtimes that a device has, those first that tell more."""
    if isinstance(device, Foreign):
        return list(device.runtimes())
    return [name for name in RUNTIMES.names() if not isinstance(RUNTIMES.load(name), Elsewhere)]


def measure(lots: Sequence[Lot], *, at_once: int | None = None, watch: Watch | None = None) -> list[Ended]:
    """Measure all lots, `at_once` of them or all at the same time; how each ended, in their order.

    An interruption, and any error that is not of a device, ends every process on every device, and is passed on.
    """
    told, stop = watch or Watch(), _Stop()
    if len(lots) == 1:
        # In the thread that Ctrl-C reaches.
        return [_measured(0, lots[0], told, stop)]
    with ThreadPoolExecutor(max_workers=at_once or max(1, len(lots))) as pool:
        futures = [pool.submit(_measured, number, lot, told, stop) for number, lot in enumerate(lots)]
        try:
            _require_all(futures)
        except BaseException:
            stop.event.set()
            pool.shutdown(wait=False, cancel_futures=True)
            _interrupt(lot.device for lot in lots)
            raise
    return [future.result() for future in futures]


def _measured(number: int, lot: Lot, watch: Watch, stop: _Stop) -> Ended:
    """What goes wrong with a model is in its result: an error of the device ends this lot, and no other."""
    try:
        with held(lot.address, on_wait=lambda: watch.on_wait(number), require_wanted=stop.require_wanted):
            stop.require_wanted()
            begun = plan.begun(lot.plan, lot.device)
            with closing(journal.opened(lot.kept, begun) if lot.kept else Journal(begun)) as kept:
                return _journaled(lot, kept, partial(watch.on_step, number), stop)
    except DeviceFailed as error:
        return Ended(results=(), lost=error)


def _journaled(lot: Lot, kept: Journal, on_step: Callable[[Step], None], stop: _Stop) -> Ended:
    try:
        found = plan.run(lot.plan, lot.device, journal=kept, on_step=on_step, require_wanted=stop.require_wanted)
    except DeviceFailed as error:
        rest = plan.results(lot.plan, kept, lot.device, failure=Failure.of(error))
        return Ended(results=rest, lost=error)
    return Ended(results=found)


def _require_all(futures: Sequence[Future[Ended]]) -> None:
    """Wait for all of them, or for the first that raises, which is passed on."""
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, return_when="FIRST_EXCEPTION")
        for each in done:
            each.result()


def _interrupt(devices: Iterable[Device]) -> None:
    for device in devices:
        with suppress(DeviceFailed):
            device.interrupt()
