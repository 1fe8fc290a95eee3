"""The peers' environment: litert-torch wants other versions than ours, so it gets an environment of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from .child import Failed, ask

REQUIREMENTS: Final = ("torch==2.13.0", "litert-torch==0.10.0", "ai-edge-quantizer==0.10.0")
INSTALL_TIMEOUT_S: Final = 3600
LOOK_TIMEOUT_S: Final = 600


def python_of_peers(given: Path | None) -> str:
    """The interpreter `given`, or that of an environment in the user's cache, made now if need be; raises `Failed`."""
    from evit_edge.models.download import cache_folder

    if given is not None:
        if not given.exists():
            raise Failed(f"there is no {given}")
        return str(given)
    folder = cache_folder() / "benchmarks" / "-".join(REQUIREMENTS).replace("==", "-")
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.exists():
        install(folder, python)
        done.touch()
    return str(python)


def install(folder: Path, python: Path) -> None:
    """With pip as it is configured here; nothing is said about where packages come from."""
    from evit_edge.converters import child

    commands = (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS],
    )
    for command in commands:
        code, tail = child.run(command, timeout_s=INSTALL_TIMEOUT_S)
        if code is None:
            raise Failed(f"installing {', '.join(REQUIREMENTS)} took longer than {INSTALL_TIMEOUT_S} s")
        if code != 0:
            raise Failed(f"{', '.join(REQUIREMENTS)} cannot be installed: {child.how_it_ended(code, tail)}")


def versions_of_peers(python: str) -> dict[str, str]:
    """Of the packages that decide what the peers write; raises `Failed` where one is missing."""
    found: dict[str, str] = ask(python, "peers", {"kind": "versions"}, timeout_s=LOOK_TIMEOUT_S)["versions"]
    return found
