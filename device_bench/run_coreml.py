"""Core ML on a Mac, wherever it likes: CPU, GPU and Neural Engine."""

from __future__ import annotations

from typing import Final

from .coreml_session import CoremlRuntime
from .session import Runtime

RUNTIME: Final[Runtime] = CoremlRuntime("ALL", label="Core ML {version}")
