"""`evit-edge doctor`."""

from __future__ import annotations

from .options import Json


def doctor(json: Json = False) -> None:
    """What is usable on this machine, and what to install for the rest."""
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
