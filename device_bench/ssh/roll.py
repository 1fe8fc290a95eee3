"""What each known device says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ...models.errors import EdgeError
from ..device import DeviceInfo, connect
from ..record import Failure
from .known import Known

State = Literal["reachable", "unreachable", "not probed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """A device that was called: what it says, or why it does not."""

    address: str
    source: str
    state: State
    info: DeviceInfo | None = None
    failure: Failure | None = None


def call(boards: Sequence[Known], *, probe: bool) -> list[Called]:
    """This machine, and `boards`; without `probe` these are not disturbed."""
    here = Called(address="local", source="this machine", state="reachable", info=connect("local").info())
    return [here, *(_called(board) if probe else _unasked(board) for board in boards)]


def _unasked(board: Known) -> Called:
    return Called(address=board.address, source=board.source, state="not probed")


def _called(board: Known) -> Called:
    try:
        device = connect(board.address)
        info = device.info()
    except EdgeError as error:
        failure = Failure.of(error)
        return Called(address=board.address, source=board.source, state="unreachable", failure=failure)
    return Called(address=board.address, source=board.source, state="reachable", info=info)
