"""A plan measured with progress, and what is said of its results, with the exit code that follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..models.errors import InvalidMeasurement

if TYPE_CHECKING:
    from pathlib import Path

    from ..device_bench.device import Device
    from ..device_bench.plan import Plan
    from ..device_bench.result import Result
    from ..device_bench.several import Ended, Lot


def reached(address: str, *, energy: bool = False) -> Device:
    """The device at `address`; with `energy`, only one that counts joules."""
    from ..device_bench import energy as joules
    from ..device_bench.device import connect

    if energy:
        joules.require(address)
    return connect(address)


def measure(wanted: Plan, device: Device, address: str, out: Path, *, quiet: bool) -> list[Result]:
    """The results on the device at `address`, which are added to the file `out`."""
    from ..device_bench import result
    from ..device_bench.several import Lot

    (ended,) = side_by_side([Lot(plan=wanted, device=device, address=address)], quiet=quiet)
    if ended.lost and not ended.results:
        raise ended.lost
    for each in ended.results:
        result.append(out, each)
    return list(ended.results)


def side_by_side(lots: Sequence[Lot], *, at_once: int | None = None, quiet: bool) -> list[Ended]:
    """How each lot ended, with a bar for each while they are measured."""
    from ..device_bench import plan, several
    from . import show

    with show.counting_each(quiet, [(lot.address, plan.least_processes(lot.plan)) for lot in lots]) as advance:
        watch = several.Watch(
            on_step=lambda number, step: advance(number, step.label),
            on_wait=lambda number: show.note(f"waiting for {lots[number].address}: another run has it"),
        )
        return several.measure(lots, at_once=at_once, watch=watch)


def tell(results: Sequence[Result], *, as_json: bool, verbose: bool) -> int:
    """Print the table; returns the exit code: that of the first failure, or of figures that do not count, or 0."""
    from ..device_bench import validity
    from ..device_bench.report import summary, table
    from . import show

    rows = summary.rows(results)
    if as_json:
        show.line(table.json(rows).rstrip())
    else:
        show.table(*table.narrow(rows), footer=table.legend(results))
    failures = [measured.failure.error() for measured in results if measured.failure]
    for failure in failures:
        show.error(failure, verbose=verbose)
    if failures:
        return failures[0].exit_code
    invalid = [measured for measured in results if validity.judge(measured).level == "INVALID"]
    if invalid:
        show.error(
            InvalidMeasurement(
                f"{len(invalid)} of {len(results)} rows are INVALID: their figures do not count",
                "the table says why; measure again on a quiet machine, or with a higher --effort",
            )
        )
    return InvalidMeasurement.exit_code if invalid else 0
