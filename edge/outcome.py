"""A plan measured with progress, and what is said of its results, with the exit code that follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..models.errors import InvalidMeasurement

if TYPE_CHECKING:
    from pathlib import Path

    from ..device_bench.plan import Plan
    from ..device_bench.result import Result


def measure(wanted: Plan, address: str, out: Path, *, quiet: bool) -> list[Result]:
    """The results on the device at `address`, which are added to the file `out`."""
    from ..device_bench import energy, plan, result
    from ..device_bench.device import connect
    from . import show

    if wanted.energy:
        energy.require(address)
    with show.counting(quiet, plan.least_processes(wanted)) as advance:
        found = plan.run(wanted, connect(address), on_step=lambda step: advance(step.label))
    for each in found:
        result.append(out, each)
    return found


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
