"""What the system's `adb` says when it fails, as one line with a hint."""

from __future__ import annotations

from typing import Final

from ...models.errors import DeviceFailed
from ..remote.link import LinkCut

# What adb prints, in the order in which it is looked for; {serial} is filled in.
_REFUSALS: Final[tuple[tuple[str, str, str], ...]] = (
    (
        "unauthorized",
        "{serial} does not trust this machine",
        "unlock it, and allow USB debugging in the question it shows",
    ),
    ("authorizing", "{serial} does not trust this machine yet", "unlock it, and allow USB debugging"),
    ("No space left on device", "the disk of {serial} is full", "make room there: adb -s {serial} shell df -h /data"),
    ("more than one device", "there are several devices", "say which: adb:SERIAL, as adb devices lists it"),
    ("insufficient permissions", "no permission for the USB device {serial}", "see adb's udev rules"),
    ("no permissions", "no permission for the USB device {serial}", "see adb's udev rules"),
    ("cannot connect to daemon", "the server of adb does not start", "run adb start-server to see why"),
    ("failed to start daemon", "the server of adb does not start", "run adb start-server to see why"),
)
# All of these are also what a phone that was unplugged in the middle looks like.
_GONE: Final[tuple[tuple[str, str, str], ...]] = (
    ("offline", "{serial} is offline", "plug it in again; over Wi-Fi: adb disconnect {serial}, adb connect {serial}"),
    ("not found", "there is no device {serial}", "adb devices lists those that there are"),
    ("no devices", "there is no device {serial}", "adb devices lists those that there are"),
)


def refused(serial: str, said: str) -> DeviceFailed:
    """Why `adb` gave no whole answer; `LinkCut` where the same may work once the phone is back."""
    for kind, reasons in ((DeviceFailed, _REFUSALS), (LinkCut, _GONE)):
        for sign, message, hint in reasons:
            if sign in said:
                return kind(message.format(serial=serial), hint.format(serial=serial))
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    why = lines[-1] if lines else "adb says nothing"
    return LinkCut(f"{serial} went away in the middle: {why}", "plug it in again, and try again")
