"""The table of MIL operators: each one is a small function of the files `ops_*.py`, with MIL's name and arguments.

A function takes its operator's inputs by MIL's names and returns a value, or a tuple of them for several outputs.
Values are `torch.Tensor` on the CPU: float32 for every float dtype (the executor rounds results to the dtype that
the program declares), int8, uint8, int16, int32, int64 or bool else; `str` for a string, `tuple` for a list of
strings and for a variadic input, `Elements` for a list of tensors. Defaults are MIL's. A name that Python reserves has
an underscore behind it. An operator with blocks has them as `blocks`: functions of a block's inputs, which give the
tuple of its results.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

Function = Callable[..., Any]
_F = TypeVar("_F", bound=Function)

_TABLE: Final[dict[str, Function]] = {}


def operator(function: _F) -> _F:
    """Put a function into the table."""
    _TABLE[function.__name__.rstrip("_")] = function
    return function


@cache
def table() -> Mapping[str, Function]:
    """Every operator by its MIL name."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name.startswith("ops_"):
            importlib.import_module(f"{__package__}.{module.name}")
    return _TABLE
