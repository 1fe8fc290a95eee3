"""LiteRT, the interpreter of the package ai-edge-litert, without XNNPACK: TFLite's own kernels."""

from __future__ import annotations

from typing import Final

from .session import Runtime
from .tflite_session import TfliteRuntime

RUNTIME: Final[Runtime] = TfliteRuntime("ai_edge_litert", label="LiteRT {version}, no XNNPACK", xnnpack=False)
