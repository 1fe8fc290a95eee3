"""One turn of a plan: a fresh process on a device, and what became of it."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ..converters.artifact import GOLDEN
from ..converters.parity import check
from ..models.errors import DeviceBusy, EdgeError, LinkLost, Unsupported
from .cooling import await_cool, was_hot
from .device import Device
from .job import EnergyJob, MemoryJob, SustainedJob, TimeJob, ask
from .journal import Entry
from .record import Energy, Failure, Memory, Record, Sustained, Timing
from .result import Parity
from .schedule import Turn
from .session import execute

if TYPE_CHECKING:
    from .plan import Plan

# How often a turn is tried again that the way to the device, or its heat, spoiled.
RETRIES: Final = 2


def take(turn: Turn, plan: Plan, device: Device, *, timeout_s: float) -> Entry:
    """Take a turn, again where the way to the device was lost, and where the device was hot.

    What a model or an engine did wrong is the entry's failure; raises `LinkLost` and `DeviceBusy`, which say nothing
    of them.
    """
    for _ in range(RETRIES):
        with suppress(LinkLost):
            entry = _take(turn, plan, device, timeout_s=timeout_s)
            if not (plan.cool_down_s and was_hot(entry)):
                return entry
            await_cool([entry], device, patience_s=plan.cool_down_s)
    return _take(turn, plan, device, timeout_s=timeout_s)


def _take(turn: Turn, plan: Plan, device: Device, *, timeout_s: float) -> Entry:
    start = time.monotonic()
    found: dict[str, Record] = {}
    try:
        found = _asked(turn, plan, device, timeout_s=timeout_s)
    except (LinkLost, DeviceBusy):
        raise
    except EdgeError as error:
        # What a device cannot tell beside its latency is left open.
        if not (isinstance(error, Unsupported) and turn.kind in ("memory", "parity")):
            found = {"failure": Failure.of(error)}
    return Entry(
        cell=turn.cell,
        kind=turn.kind,
        round=turn.round,
        order=turn.order,
        seconds=round(time.monotonic() - start, 3),
        **found,  # type: ignore[arg-type]
    )


def _asked(turn: Turn, plan: Plan, device: Device, *, timeout_s: float) -> dict[str, Record]:
    cell = plan.cells[turn.cell]
    known: dict[str, Any] = {
        "artifact": str(cell.artifact.folder.resolve()),
        "runtime": cell.runtime,
        "threads": cell.threads,
        "batch": cell.batch,
        "seed": plan.seed,
    }
    match turn.kind:
        case "time":
            timing = ask(device, TimeJob(**known, effort=plan.effort), answer=Timing, timeout_s=timeout_s)
            if plan.strict_placement:
                _require_placed(timing)
            return {"timing": timing}
        case "memory":
            return {"memory": ask(device, MemoryJob(**known), answer=Memory, timeout_s=timeout_s)}
        case "energy":
            return {"energy": ask(device, EnergyJob(**known), answer=Energy, timeout_s=timeout_s)}
        case "sustained":
            lasting = plan.sustained_s or 0.0
            load = SustainedJob(**known, duration_s=lasting)
            return {"sustained": ask(device, load, answer=Sustained, timeout_s=timeout_s + lasting)}
        case "parity" if not (cell.artifact.folder / GOLDEN).exists():
            return {}
        case "parity":
            run = partial(execute, device=device, timeout_s=timeout_s)
            verdict = Parity.of(check(cell.artifact, execute=run, engine=cell.runtime))
            return {"parity": verdict.model_copy(update={"engine": f"{cell.runtime}, there"})}


def _require_placed(timing: Timing) -> None:
    placed = timing.placement
    if placed and placed.delegate and placed.nodes_taken != placed.nodes:
        share = "an unknown share" if placed.nodes_taken is None else str(placed.nodes_taken)
        raise Unsupported(
            f"{placed.delegate} runs {share} of {placed.nodes} nodes", "all of them are asked for: --strict-placement"
        )
