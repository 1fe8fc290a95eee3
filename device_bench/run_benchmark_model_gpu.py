"""TFLite's benchmark_model on a phone, by the GPU delegate; what it leaves goes to the CPU's own kernels."""

from __future__ import annotations

from typing import Final

from .benchmark_runtime import BenchmarkModelRuntime
from .session import Runtime

RUNTIME: Final[Runtime] = BenchmarkModelRuntime(
    "--use_xnnpack=false",
    "--use_gpu=true",
    delegate="GPU",
    label="benchmark_model, GPU",
    half_flag="--gpu_precision_loss_allowed",
)
