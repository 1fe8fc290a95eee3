"""What a board is asked: `python3 runner.pyz COMMAND …`, one command a connection, answered by one marked line."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Final

from . import keeping, plain
from .first import MARK

PACKAGE: Final = __package__.rpartition(".")[0]
ENGINES: Final = ("onnxruntime", "ai-edge-litert", "tflite-runtime", "numpy")
# Set by whoever emulates a board: an emulator may hide itself well.
EMULATED: Final = "EVIT_EDGE_EMULATED"


def main() -> None:
    """Answer one command; a trial's answer is its file."""
    _stand_in()
    name, *arguments = sys.argv[1:]
    if name == "trial":
        from . import trial

        trial.main(*arguments)
        return
    try:
        answer = COMMANDS[name](*arguments)
    except OSError as error:
        answer = {"error": error.strerror or str(error), "errno": error.errno}
    print(MARK + json.dumps(answer, default=vars), flush=True)


def facts(device: str) -> dict[str, Any]:
    """The fields of a `device.DeviceInfo`."""
    from .. import conditions, fingerprint

    found = vars(fingerprint.this_machine(device))
    tree = conditions.ROOT / "proc/device-tree"
    described = (conditions.text(tree / "compatible") or "").split("\0")
    return {
        **found,
        "versions": _versions(),
        "board": conditions.text(tree / "model"),
        "soc": described[-1] or None,
        "temperature_c": conditions.temperature_c(conditions.ROOT),
        "throttled": conditions.throttled(),
        "emulated": emulated(conditions.ROOT),
    }


def emulated(root: Path) -> bool:
    """Whether this is an emulated machine; one that neither says so nor contradicts itself is believed."""
    is_arm = platform.machine().startswith(("aarch64", "arm"))
    said = (root / "proc/cpuinfo", root / "proc/version", root / "proc/device-tree/model")
    cpu, kernel, board = (_text(path) for path in said)
    contradicts = is_arm and bool(re.search(r"^vendor_id", cpu, re.MULTILINE) or re.search(r"amd64|x86[-_]64", kernel))
    return contradicts or board.startswith("linux,dummy-virt") or bool(os.environ.get(EMULATED))


def digests(*paths: str) -> dict[str, Any]:
    """The SHA-256 of files, null for one that is not there."""
    return {"sha256": [_digest(Path(path)) for path in paths]}


def get(path: str) -> dict[str, Any]:
    """A file's bytes, in base64."""
    content = Path(path).read_bytes()
    return {"base64": base64.b64encode(content).decode(), "sha256": hashlib.sha256(content).hexdigest()}


def run(folder: str, deadline_s: str, patience_s: str, *command: str) -> dict[str, Any]:
    """Start a command, or wait on for it."""
    return keeping.run(Path(folder), list(command), deadline_s=float(deadline_s), patience_s=float(patience_s))


def remove(folder: str) -> dict[str, Any]:
    """End what runs below a session's folder, and take the folder away."""
    keeping.remove(Path(folder))
    return {}


def stop(folder: str) -> dict[str, Any]:
    """End one command."""
    keeping.stop(Path(folder))
    return {}


def sweep(folder: str) -> dict[str, Any]:
    """Take away what others left."""
    keeping.sweep(Path(folder))
    return {}


COMMANDS: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    "facts": facts, "digests": digests, "get": get, "run": run, "stop": stop, "remove": remove, "sweep": sweep,
}  # fmt: skip


def _stand_in() -> None:
    """Whoever imports these names from here on gets what needs no pydantic."""
    for name in ("device", "record", "session"):
        sys.modules[f"{PACKAGE}.{name}"] = plain
    sys.modules[f"{PACKAGE}.feeding"] = import_module(f"{__package__}.feeding")


def _versions() -> dict[str, str]:
    found = {}
    for name in ENGINES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
