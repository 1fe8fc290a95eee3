"""Which engine judges a new artifact: the one that users run, unless this machine computes otherwise than theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ..converters.convert import SelfCheck
from .session import RUNTIMES, Runtime, default_runtime

if TYPE_CHECKING:
    from ..converters.conversion import Conversion


@runtime_checkable
class Checking(Protocol):
    """A runtime that does a file's own arithmetic, and so tells a wrong file from a machine that runs it wrongly."""

    def judges(self, conversion: Conversion) -> bool:
        """Whether it alone can: the file is made for machines that compute otherwise than this one."""

    def advice(self, conversion: Conversion) -> str:
        """What to do where the file passes in it and not in the engine that users run; empty where nothing is known."""


def engines(conversion: Conversion) -> tuple[str, SelfCheck | None]:
    """The runtime that judges what `conversion` makes, and the one to ask in turn where the file fails there."""
    usual = default_runtime(conversion.target)
    for name in RUNTIMES.names():
        runtime: Runtime = RUNTIMES.load(name)
        if isinstance(runtime, Checking) and runtime.opens(conversion.target):
            if runtime.judges(conversion):
                return name, None
            return usual, SelfCheck(engine=name, advice=runtime.advice(conversion))
    return usual, None
