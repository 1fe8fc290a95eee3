"""evit-edge: trained vision models to ONNX, TFLite and Core ML, checked against the original and measured.

The names below are the Python API; each is imported when it is first used, so `import evit_edge` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

__version__: Final = "0.1.0"

if TYPE_CHECKING:
    from .converters.artifact import Artifact as Artifact
    from .converters.artifact import read as read_artifact
    from .converters.conversion import Conversion as Conversion
    from .converters.convert import convert as convert
    from .converters.conversion import plan as plan_conversion
    from .device_bench.plan import run as bench
    from .device_bench.result import Result as Result
    from .device_bench.result import read as read_results
    from .device_bench.session import execute as execute
    from .models.errors import EdgeError as EdgeError
    from .models.spec import ModelRequest as ModelRequest
    from .models.spec import ModelSpec as ModelSpec
    from .models.spec import find as find_model

_WHERE: Final = {
    "Artifact": ("converters.artifact", "Artifact"),
    "Conversion": ("converters.conversion", "Conversion"),
    "EdgeError": ("models.errors", "EdgeError"),
    "ModelRequest": ("models.spec", "ModelRequest"),
    "ModelSpec": ("models.spec", "ModelSpec"),
    "Result": ("device_bench.result", "Result"),
    "bench": ("device_bench.plan", "run"),
    "convert": ("converters.convert", "convert"),
    "execute": ("device_bench.session", "execute"),
    "find_model": ("models.spec", "find"),
    "plan_conversion": ("converters.conversion", "plan"),
    "read_artifact": ("converters.artifact", "read"),
    "read_results": ("device_bench.result", "read"),
}

__all__ = [
    "Artifact",
    "Conversion",
    "EdgeError",
    "ModelRequest",
    "ModelSpec",
    "Result",
    "bench",
    "convert",
    "execute",
    "find_model",
    "plan_conversion",
    "read_artifact",
    "read_results",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _WHERE[name]
    return getattr(importlib.import_module(f".{module}", __name__), attribute)
