"""The device `local`: this machine."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ..converters import child
from ..models.errors import DeviceFailed, UnknownName
from .device import Connect, DeviceInfo, Finished
from .fingerprint import this_machine


class LocalDevice:
    """This machine, with the interpreter that is running."""

    python = sys.executable

    def __init__(self) -> None:
        self._is_interrupted = False

    def info(self) -> DeviceInfo:
        """What the machine is, now."""
        return this_machine("local")

    def push(self, source: Path) -> str:
        """Where `source` is: it is there already."""
        return str(source.resolve())

    def run(self, command: Sequence[str], *, timeout_s: float) -> Finished:
        """Run `command` as the leader of its own process group; raises `DeviceFailed` at the deadline."""
        try:
            returncode, tail = child.run(command, timeout_s=timeout_s, watch=self._require_wanted)
        except OSError as error:
            raise DeviceFailed(f"{command[0]} does not start: {error.strerror or error}") from error
        if returncode is None:
            raise DeviceFailed(
                f"no answer within {timeout_s:g} s; the process was stopped", "try a smaller batch or a lower effort"
            )
        return Finished(returncode=returncode, tail=tail)

    def pull(self, source: str, target: Path) -> None:
        """Copy `source` to `target`, unless it is there already."""
        if Path(source).resolve() != target.resolve():
            try:
                shutil.copyfile(source, target)
            except OSError as error:
                raise DeviceFailed(f"{source} cannot be fetched: {error.strerror or error}") from error

    def interrupt(self) -> None:
        """End what runs, whichever thread waits for it."""
        self._is_interrupted = True

    def _require_wanted(self) -> None:
        if self._is_interrupted:
            raise DeviceFailed("the run was ended")


def connect_local(where: str) -> LocalDevice:
    """This machine; raises `UnknownName` if `where` says another."""
    if where:
        raise UnknownName(f"unknown device 'local:{where}'", "local takes no address")
    return LocalDevice()


DEVICE: Final[Connect] = connect_local
