"""TFLite, the interpreter of the package tflite-runtime, with XNNPACK as it comes."""

from __future__ import annotations

from typing import Final

from .session import Runtime
from .tflite_session import TfliteRuntime

RUNTIME: Final[Runtime] = TfliteRuntime("tflite_runtime", label="tflite-runtime {version}", xnnpack=True)
