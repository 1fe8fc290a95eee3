"""What the system's `ssh` says when it fails, as one line with a hint."""

from __future__ import annotations

from typing import Final

from ...models.errors import DeviceFailed
from ..remote.link import LinkCut

# What ssh prints, in the order in which it is looked for; {host} is filled in.
_REFUSALS: Final[tuple[tuple[str, str, str], ...]] = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "{host} has another host key than the known one",
        "if it was set up anew: ssh-keygen -R {host}; otherwise it may not be your board",
    ),
    (
        "Host key verification failed",
        "the host key of {host} is not known",
        "run ssh {host} once, and compare the fingerprint that it shows",
    ),
    ("Permission denied", "{host} does not accept the key", "run ssh-copy-id {host}, or start ssh-agent"),
    ("Too many authentication failures", "{host} does not accept the key", "set IdentityFile in ~/.ssh/config"),
    ("Connection refused", "{host} refuses the connection", "is sshd running there, and the port right?"),
    ("Could not resolve hostname", "there is no host {host}", "see Host and HostName in ~/.ssh/config"),
    ("timed out", "{host} does not answer", "is it switched on, and in this network?"),
    ("No route to host", "{host} cannot be reached", "is it switched on, and in this network?"),
    ("Network is unreachable", "{host} cannot be reached", "is this machine in a network?"),
    ("Bad owner or permissions", "ssh refuses its configuration", "chmod 600 ~/.ssh/config"),
    ("terminating, ", "ssh refuses its configuration", "run ssh {host} to see why"),
)


def refused(host: str, said: str) -> DeviceFailed:
    """Why `ssh` ended with status 255; `LinkCut` where it had been connected."""
    for sign, message, hint in _REFUSALS:
        # What was connected may end with a word that a refusal has too.
        if sign in said and "Read from remote host" not in said:
            return DeviceFailed(message.format(host=host), hint.format(host=host))
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return LinkCut(f"the link to {host} was cut: {lines[-1] if lines else 'ssh says nothing'}", "try again")
