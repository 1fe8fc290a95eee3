"""`evit-edge quant-report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .options import Json, Quiet

if TYPE_CHECKING:
    from ..converters.losses import Loss, Losses

COLUMNS: Final = (
    "operator", "kind", "arithmetic", "isolated dB", "", "propagated dB", "seen", "held", "clipped", "weights dB", "",
)  # fmt: skip
MEANING: Final = (
    "isolated: the operator alone, on the float form's values; propagated: with the errors before it. seen: the float "
    "form's range; held: what the integers can be. weights: SQNR of all, and of the worst channel."
)
BAR: Final = 12
# Where a bar is full: nobody looks for more.
FULL_DB: Final = 60.0


def quant_report(
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="A folder that `convert` wrote.")],
    data: Annotated[
        Path | None, typer.Option(help="Images: a folder, or .npz with `images`; the artifact's own if not given.")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="How many of them at most.")] = 8,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Also write a page with pictures, in one file.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """What quantization cost where: each operator against its float form, with the errors before it and alone.

    Reads the files as they are now, so it also finds what somebody changed in them.
    """
    from ..converters.losses_worker import report
    from . import show

    with show.steps(quiet) as step:
        step(f"running {artifact} operator by operator")
        losses = report(artifact, data=data, images=images)
        if html is not None:
            step(f"drawing {html}")
            _write_page(losses, artifact, html)
    if json:
        show.json(show.plain(losses))
    else:
        _print(losses, artifact)
    return 0


def _write_page(losses: Losses, artifact: Path, file: Path) -> None:
    from ..device_bench.report import loss_page

    summary = [*losses.notes, _summary(losses)]
    loss_page.write(losses, title=artifact.resolve().name, summary=summary, file=file)


def _print(losses: Losses, artifact: Path) -> None:
    from ..converters.losses import worst
    from . import show

    for note in losses.notes:
        show.note(note)
    rows = [_cells(losses.operators[place]) for place in worst(losses.operators)]
    show.table(f"{artifact}: the operators that lose most by themselves", COLUMNS, rows, footer=MEANING)
    show.line(_summary(losses))


def _summary(losses: Losses) -> str:
    """The whole model in a line."""
    from ..device_bench.report.loss_page import decibels

    parts = [f"{losses.images} images", f"{len(losses.operators)} results of operators"]
    if losses.left_out:
        parts.append(f"{len(losses.left_out)} more have no counterpart in the float form")
    if losses.output is not None:
        parts.append(f"outputs {decibels(losses.output.sqnr_db)} dB")
        parts.append(f"the same first class on {losses.output.agreeing} of {losses.images}")
    suspicious = sum(loss.suspicious for loss in losses.operators)
    return ", ".join(parts) + (f"; {suspicious} suspicious" if suspicious else "")


def _cells(loss: Loss) -> list[str]:
    from ..device_bench.report.loss_page import decibels, span

    weight = loss.weight
    remark = "; ".join(part for part in ("suspicious" if loss.suspicious else "", loss.remark) if part)
    return [
        loss.name if weight is None else f"{loss.name} ({weight.name})",
        loss.kind,
        loss.arithmetic,
        decibels(loss.isolated_db),
        _bar(loss.isolated_db),
        decibels(loss.propagated_db),
        span(loss.seen),
        span(loss.held),
        f"{loss.clipped:.2%}" if loss.held else "—",
        "—" if weight is None else f"{decibels(weight.sqnr_db)}, {decibels(weight.worst_channel_db)}",
        remark,
    ]


def _bar(value: float) -> str:
    """As long as the SQNR is good, full from 60 dB on."""
    return "█" * round(BAR * min(max(value, 0.0), FULL_DB) / FULL_DB)
