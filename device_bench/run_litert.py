"""LiteRT, the interpreter of the package ai-edge-litert, with XNNPACK as it comes."""

from __future__ import annotations

from typing import Final

from .session import Runtime
from .tflite_session import TfliteRuntime

RUNTIME: Final[Runtime] = TfliteRuntime("ai_edge_litert", label="LiteRT {version}", xnnpack=True)
