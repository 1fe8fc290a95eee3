"""TFLite's benchmark_model on a phone, with XNNPACK on the CPU."""

from __future__ import annotations

from typing import Final

from .benchmark_runtime import BenchmarkModelRuntime
from .session import Runtime

RUNTIME: Final[Runtime] = BenchmarkModelRuntime(
    "--use_xnnpack=true", delegate="XNNPACK", label="benchmark_model, XNNPACK"
)
