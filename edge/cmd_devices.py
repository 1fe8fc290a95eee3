"""`evit-edge devices`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from .options import Json, Quiet

if TYPE_CHECKING:
    from ..device_bench.device import DeviceInfo
    from ..device_bench.ssh.roll import Called

ENGINES: Final = ("onnxruntime", "ai-edge-litert", "tflite-runtime")


def devices(
    probe: Annotated[bool, typer.Option("--probe", help="Connect to each board, and ask it what it is.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Machines that can be measured: this one, and boards that devices.toml or your ssh configuration names."""
    from ..device_bench.ssh import known, roll
    from . import show

    with show.steps(quiet) as step:
        step("calling each board" if probe else "looking")
        found = roll.call(known.boards(), probe=probe)
    if json:
        show.json([_plain(each) for each in found])
        return
    show.table(
        "",
        ["device", "named in", "state", "what it is", "engines"],
        [_cells(each) for each in found],
        footer="" if probe else "Boards were not asked: --probe connects to them.",
    )


def _plain(called: Called) -> dict[str, Any]:
    from . import show

    return {
        "address": called.address,
        "source": called.source,
        "state": called.state,
        "info": show.plain(called.info) if called.info else None,
        "failure": show.plain(called.failure) if called.failure else None,
    }


def _cells(called: Called) -> list[str]:
    what = "—"
    if called.failure:
        what = str(called.failure.error())
    elif called.info:
        what = _facts(called.info)
    versions = called.info.versions if called.info else {}
    engines = ", ".join(f"{name} {versions[name]}" for name in ENGINES if name in versions)
    return [called.address, called.source, called.state, what, engines or "—"]


def _facts(info: DeviceInfo) -> str:
    said = [
        "EMULATED" if info.emulated else "",
        info.board or info.cpu,
        f"{info.logical_cpus} CPUs",
        f"{info.memory_bytes / 2**30:.1f} GiB",
        info.governor or "",
        f"{info.temperature_c:.0f} °C" if info.temperature_c else "",
        f"throttled {info.throttled:#x}" if info.throttled else "",
    ]
    return ", ".join(part for part in said if part)
