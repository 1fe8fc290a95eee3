"""TFLite's benchmark_model on a phone, with its own kernels for the CPU."""

from __future__ import annotations

from typing import Final

from .benchmark_runtime import BenchmarkModelRuntime
from .session import Runtime

RUNTIME: Final[Runtime] = BenchmarkModelRuntime(
    "--use_xnnpack=false", delegate=None, label="benchmark_model, CPU without delegates"
)
