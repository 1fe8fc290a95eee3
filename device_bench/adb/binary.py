"""The `benchmark_model` that a user gives: which file, and whether a phone can run it."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ...models.errors import FileProblem, MissingDependency, Unsupported

VARIABLE: Final = "EVIT_EDGE_BENCHMARK_BINARY"
# By class (1: 32 bits, 2: 64 bits) and `e_machine` of the ELF header.
ABIS: Final = {(2, 183): "arm64-v8a", (1, 40): "armeabi-v7a", (2, 62): "x86_64", (1, 3): "x86", (2, 243): "riscv64"}
WHERE: Final = "see docs/android.md for where to get it"


def chosen() -> Path:
    """The file that `$EVIT_EDGE_BENCHMARK_BINARY` names; raises `MissingDependency`."""
    named = os.environ.get(VARIABLE)
    if not named:
        raise MissingDependency(
            "a phone is measured with benchmark_model", f"give it: --benchmark-binary FILE; {WHERE}"
        )
    return Path(named)


def require(binary: Path, abis: Sequence[str]) -> None:
    """Raise `FileProblem` for what is no executable, and `Unsupported` for one that runs on none of `abis`."""
    built_for = abi(binary)
    if built_for not in abis:
        raise Unsupported(
            f"{binary} is built for {built_for}, and the device runs {', '.join(abis)}",
            f"give the one for {next(iter(abis), 'it')}; {WHERE}",
        )


def abi(binary: Path) -> str:
    """Android's name of what `binary` is built for; raises `FileProblem`."""
    try:
        with binary.open("rb") as file:
            header = file.read(20)
    except OSError as error:
        raise FileProblem(f"{binary} cannot be read: {error.strerror or error}", WHERE) from error
    if len(header) < 20 or header[:4] != b"\x7fELF":
        raise FileProblem(f"{binary} is no executable for Android", WHERE)
    order = "<" if header[5] == 1 else ">"
    (machine,) = struct.unpack(f"{order}H", header[18:20])
    return ABIS.get((header[4], machine), f"an unknown machine ({machine})")
