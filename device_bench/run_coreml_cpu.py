"""Core ML on a Mac, on the CPU alone."""

from __future__ import annotations

from typing import Final

from .coreml_session import CoremlRuntime
from .session import Runtime

RUNTIME: Final[Runtime] = CoremlRuntime("CPU_ONLY", label="Core ML {version}, CPU")
