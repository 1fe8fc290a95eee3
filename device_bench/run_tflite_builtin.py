"""TFLite, the interpreter of the package tflite-runtime, without XNNPACK: TFLite's own kernels."""

from __future__ import annotations

from typing import Final

from .session import Runtime
from .tflite_session import TfliteRuntime

RUNTIME: Final[Runtime] = TfliteRuntime("tflite_runtime", label="tflite-runtime {version}, no XNNPACK", xnnpack=False)
