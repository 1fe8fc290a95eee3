"""In the place of `device.py`, `record.py` and `session.py` on a board, where pydantic is not: values without checks.

Whoever reads them back checks them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, Protocol, runtime_checkable

Feeds = Mapping[str, Any]
Session = Any
Runtime = Any


class DeviceInfo(SimpleNamespace):
    """`device.DeviceInfo`."""


class Conditions(SimpleNamespace):
    """`record.Conditions`."""


class Energy(SimpleNamespace):
    """`record.Energy`."""


class Failure(SimpleNamespace):
    """`record.Failure`."""


class Memory(SimpleNamespace):
    """`record.Memory`."""


class OperatorTime(SimpleNamespace):
    """`record.OperatorTime`."""


class Placement(SimpleNamespace):
    """`record.Placement`."""


class Profile(SimpleNamespace):
    """`record.Profile`."""


class Sustained(SimpleNamespace):
    """`record.Sustained`."""


class Timing(SimpleNamespace):
    """`record.Timing`."""


@runtime_checkable
class Delegating(Protocol):
    """`session.Delegating`."""

    def placement(self) -> Any:
        """What the delegate took."""


@runtime_checkable
class Profiling(Protocol):
    """`session.Profiling`."""

    def profile(self, artifact: Any, feeds: Feeds, *, threads: int, runs: int) -> Any:
        """The time of every operator."""
