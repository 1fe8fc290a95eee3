"""TFLite's `benchmark_model` as an engine: it runs on a phone alone, by one delegate or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..models.errors import MissingDependency

if TYPE_CHECKING:
    from ..converters.artifact import Artifact
    from .session import Session

PHONE: Final = "a phone, and the benchmark_model for it: --device adb:SERIAL --benchmark-binary FILE"


class BenchmarkModelRuntime:
    """Stands for what `benchmark_model` does with `flags`; `delegate` is its own name of what it was asked for.

    `half_flag` allows that delegate arithmetic of half precision, which is for all artifacts but those of fp32.
    """

    requires: tuple[str, ...] = ()
    original = False
    timed = True
    only_on = "adb"

    def __init__(self, *flags: str, delegate: str | None, label: str, half_flag: str | None = None) -> None:
        self.flags = flags
        self.delegate = delegate
        self.label = label
        self.half_flag = half_flag

    def opens(self, target: str) -> bool:
        """Whether `target` is tflite."""
        return target == "tflite"

    def open(self, artifact: Artifact, *, threads: int) -> Session:
        """Raises `MissingDependency`: this machine is no phone."""
        raise MissingDependency(f"this engine needs {PHONE}", "see docs/android.md")

    def lacks(self) -> str:
        """What this machine lacks for it."""
        return f"needs {PHONE}"
