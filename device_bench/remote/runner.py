"""The one file that is put on a board: a zip that Python runs, of `board/` and what it shares with this machine."""

from __future__ import annotations

import tempfile
import zipapp
from importlib.resources import files
from pathlib import Path
from typing import Final

PACKAGE: Final = "evit_edge"
FIRST: Final = "device_bench/board/first.py"
# As they are: whatever these import when they are imported must be on every board, or have its stand-in there.
SHARED: Final = (
    *(
        f"device_bench/board/{name}.py"
        for name in ("__init__", "agent", "feeding", "first", "keeping", "plain", "trial")
    ),
    *(f"device_bench/{name}.py" for name in ("__init__", "conditions", "cores", "energy", "fingerprint", "protocol")),
    *("device_bench/trial.py", "device_bench/run_onnxruntime.py", "device_bench/run_onnxruntime_exact.py"),
    *(f"device_bench/run_{name}.py" for name in ("litert", "litert_builtin", "tflite", "tflite_builtin")),
    *(f"device_bench/tflite_{name}.py" for name in ("placement", "session", "tensors")),
    *("converters/__init__.py", "converters/child.py", "converters/tensors.py", "converters/onnx/__init__.py"),
    *("converters/onnx/host.py", "converters/tflite/__init__.py", "converters/tflite/flatbuffer.py"),
    *("models/__init__.py", "models/errors.py"),
)


def first() -> str:
    """The text of the program that looks around before the runner is there, and puts it there."""
    return (files(PACKAGE) / FIRST).read_text(encoding="utf-8")


def runtimes() -> list[str]:
    """The names of the runtimes that a board can have."""
    return sorted(Path(path).stem.removeprefix("run_") for path in SHARED if "/run_" in path)


def build(target: Path) -> None:
    """Write the runner to `target`."""
    with tempfile.TemporaryDirectory(prefix="evit-edge-") as folder:
        for path in SHARED:
            file = Path(folder, PACKAGE, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes((files(PACKAGE) / path).read_bytes())
        # The package's own imports all of it.
        Path(folder, PACKAGE, "__init__.py").touch()
        zipapp.create_archive(folder, target, main=f"{PACKAGE}.device_bench.board.agent:main", compressed=True)
