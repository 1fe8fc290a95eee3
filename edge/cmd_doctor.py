"""`evit-edge doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .options import Json, Quiet

if TYPE_CHECKING:
    from ..device_bench.resolution import Resolution


def doctor(
    measure: Annotated[
        bool, typer.Option("--measure", help="Instead, which differences can be told here; about 20 seconds.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """What is usable on this machine, and what to install for the rest."""
    from . import show

    if measure:
        found = _measured(quiet)
        if json:
            show.json(show.plain(found))
        else:
            show.table("", ["what", "figure"], _figures(found), footer=_caution(found))
        return
    _examine(json)


def _examine(json: bool) -> None:
    from dataclasses import asdict

    from ..device_bench.doctor import examine
    from . import show

    findings = examine()
    if json:
        show.json([asdict(finding) for finding in findings])
        return
    show.table(
        "",
        ["what", "state", "found", "advice"],
        [[finding.subject, finding.state, finding.detail, finding.advice] for finding in findings],
    )


def _measured(quiet: bool) -> Resolution:
    from ..device_bench import resolution
    from ..device_bench.device import connect
    from . import show

    with show.counting(quiet, resolution.PROCESSES) as advance:
        return resolution.measure(
            connect("local").info(), on_process=lambda done: advance(f"process {done + 1} of {resolution.PROCESSES}")
        )


def _figures(found: Resolution) -> list[list[str]]:
    low, high = found.variation_interval
    return [
        ["processes differ by", f"{found.variation:.1%} (standard deviation, {low:.1%} to {high:.1%} at 95 %)"],
        ["samples that lost their CPU", f"{found.disturbed:.1%}"],
        *([f"interval of {count} processes", f"±{width:.1%}"] for count, width in found.half_widths.items()),
        *([f"processes for ±{wanted:.0%}", _number(count)] for wanted, count in found.processes_for.items()),
        ["noise floor", f"{found.noise_floor:.1%}"],
    ]


def _number(processes: int | None) -> str:
    from ..device_bench.resolution import MOST_PROCESSES

    return f"over {MOST_PROCESSES}" if processes is None else str(processes)


def _caution(found: Resolution) -> str:
    factor = (found.variation_interval[1] / found.variation) if found.variation else 1
    return (
        f"{len(found.medians_ns)} processes of one matrix product, within a minute: the intervals may turn out "
        f"{factor:.1f} times as wide, a busier hour differs, and so do models that need more memory. "
        "A change under the noise floor is none; verdicts keep to it for a week."
    )
