"""Engines that open artifacts. `Session.run` is the only thing that is ever timed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from ..models.plugins import PluginKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..converters.artifact import Artifact

Feeds = Mapping[str, "NDArray[Any]"]


class Session(Protocol):
    """An opened artifact."""

    def run(self, feeds: Feeds) -> list[NDArray[Any]]:
        """Inputs by name, in the dtypes of the manifest; outputs in the manifest's order."""

    def close(self) -> None:
        """Give back what the engine holds."""


class Runtime(Protocol):
    """An engine: the plug-in `RUNTIME` of a file `run_*.py`."""

    requires: tuple[str, ...]

    def opens(self, target: str) -> bool:
        """Whether this engine runs artifacts of `target`; the first that does, by name, is the target's default."""

    def open(self, artifact: Artifact, *, threads: int) -> Session:
        """Load the artifact for `threads` threads; raises `BadArtifact` or `MissingDependency`."""


RUNTIMES: Final = PluginKind(noun="runtime", package=__package__, prefix="run_", attribute="RUNTIME")
