"""A benchmark_model that the phone cannot run is refused before anything is copied."""

from pathlib import Path

import pytest

from evit_edge.device_bench.adb import binary
from evit_edge.models.errors import FileProblem, MissingDependency, Unsupported

from .phone import executable


@pytest.mark.parametrize(("machine", "abi"), [(183, "arm64-v8a"), (62, "x86_64"), (243, "riscv64")])
def test_the_abi_is_that_of_the_header(tmp_path: Path, machine: int, abi: str) -> None:
    (tmp_path / "tool").write_bytes(executable(machine))
    assert binary.abi(tmp_path / "tool") == abi
    binary.require(tmp_path / "tool", [abi, "x86"])


def test_one_for_another_phone_is_refused_with_what_the_phone_runs(tmp_path: Path) -> None:
    (tmp_path / "tool").write_bytes(executable(62))
    with pytest.raises(Unsupported, match=r"built for x86_64, and the device runs arm64-v8a, armeabi-v7a"):
        binary.require(tmp_path / "tool", ["arm64-v8a", "armeabi-v7a"])
    (tmp_path / "tool").write_bytes(executable(8))
    with pytest.raises(Unsupported, match=r"an unknown machine \(8\)"):
        binary.require(tmp_path / "tool", ["arm64-v8a"])


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\necho no\n", b"\x7fELF\x02\x01"])
def test_what_is_no_executable_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tool").write_bytes(content)
    with pytest.raises(FileProblem, match="no executable for Android"):
        binary.abi(tmp_path / "tool")
    with pytest.raises(FileProblem, match="cannot be read"):
        binary.abi(tmp_path / "none")


def test_without_a_binary_nothing_is_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(binary.VARIABLE, raising=False)
    with pytest.raises(MissingDependency, match="benchmark_model") as caught:
        binary.chosen()
    assert "--benchmark-binary" in caught.value.hint
