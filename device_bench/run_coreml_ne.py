"""Core ML on a Mac, on the CPU and the Neural Engine."""

from __future__ import annotations

from typing import Final

from .coreml_session import CoremlRuntime
from .session import Runtime

RUNTIME: Final[Runtime] = CoremlRuntime("CPU_AND_NE", label="Core ML {version}, CPU and Neural Engine")
