"""ONNX Runtime, graph optimisations off: a file's own arithmetic. Nothing becomes an integer kernel, so none saturates.

Between DequantizeLinear and QuantizeLinear all operators compute in float32, in which sums of products of 8 bits are as
good as exact. Slow, and never timed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from ..converters.onnx import host
from .run_onnxruntime import OnnxRuntime
from .session import Runtime

if TYPE_CHECKING:
    from ..converters.conversion import Conversion


class ExactOnnxRuntime(OnnxRuntime):
    """Opens `onnx` artifacts, to check them."""

    label = "onnxruntime {version}, graph optimisations off"
    timed = False
    level: ClassVar[str] = "ORT_DISABLE_ALL"

    def judges(self, conversion: Conversion) -> bool:
        """Whether the integers are made for another kind of CPU than this one, which would saturate."""
        return conversion.precision == "int8" and not host.is_exact_for(conversion.options["host"])

    def advice(self, conversion: Conversion) -> str:
        """The host whose integers never saturate, where that is not the one that was chosen."""
        if conversion.precision != "int8" or conversion.options["host"] in host.UNSIGNED:
            return ""
        return f"this CPU's integers saturate: take --host {host.UNSIGNED[0]}"


RUNTIME: Final[Runtime] = ExactOnnxRuntime()
