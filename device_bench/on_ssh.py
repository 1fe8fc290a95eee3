"""Devices `ssh:HOST`: a Linux board with Python, reached as the user's own `ssh HOST` reaches it.

The board needs Python 3.10 or newer and an engine.
"""

from __future__ import annotations

from typing import Final

from .device import Connect
from .remote.device import RunnerDevice
from .ssh import known
from .ssh.link import Link


class SshDevice(RunnerDevice):
    """The board at `host`; `interpreter` is a Python there."""

    def __init__(self, host: str, interpreter: str = "python3") -> None:
        super().__init__(Link(host), f"ssh:{host}", interpreter)


def connect_ssh(where: str) -> SshDevice:
    """The board that `ssh WHERE` reaches; raises `DeviceFailed` if it does not answer, or has no suitable Python."""
    return SshDevice(where, known.python_of(f"ssh:{where}"))


DEVICE: Final[Connect] = connect_ssh
