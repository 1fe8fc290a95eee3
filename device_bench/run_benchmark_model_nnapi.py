"""TFLite's benchmark_model on a phone, by NNAPI; what it leaves goes to the CPU'\''s own kernels."""

from __future__ import annotations

from typing import Final

from .benchmark_runtime import BenchmarkModelRuntime
from .session import Runtime

RUNTIME: Final[Runtime] = BenchmarkModelRuntime(
    "--use_xnnpack=false",
    "--use_nnapi=true",
    delegate="NNAPI",
    label="benchmark_model, NNAPI",
    half_flag="--nnapi_allow_fp16",
)
