"""A board that is a shell on this machine: a home of its own, a Python without pydantic, behind a real sshd."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from evit_edge.device_bench.on_ssh import SshDevice
from evit_edge.device_bench.ssh.link import CONFIG

from . import sshd
from .conftest import processes_naming, wait_until


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """The server, and the home folder that its connections land in."""

    server: sshd.Server
    home: Path

    @property
    def files(self) -> list[Path]:
        """What is left in the home folder."""
        return sorted(self.home.rglob("*"))

    def site(self, code: str) -> None:
        """Every Python there runs `code` first, after pydantic was taken away from it."""
        (self.home.parent / "site" / "sitecustomize.py").write_text(f"{WITHOUT}{code}\n")

    def settings(self, text: str) -> None:
        """Lines of a shell that every connection runs before anything else."""
        (self.home.parent / "settings").write_text(text)

    def is_clean_but_for_cache(self) -> bool:
        """Whether no process is left there, and no file: an empty folder may be."""
        return not any(path.is_file() for path in self.files) and not processes_naming(self.home)

    def is_clean(self) -> bool:
        """Whether neither a file nor a process is left there."""
        return not self.files and not processes_naming(self.home)


WITHOUT = "import sys\nsys.modules['pydantic'] = None\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """One sshd for all tests of a file."""
    if reason := sshd.lacking():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("board")
    home, binaries, site = (folder / name for name in ("home", "bin", "site"))
    for each in (home, binaries, site):
        each.mkdir()
    python = binaries / "python3"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    land = folder / "land.sh"
    land.write_text(
        f"#!/bin/sh\nexport HOME={home} PYTHONPATH={site} PATH={binaries}:/usr/bin:/bin\nunset XDG_CACHE_HOME\n"
        f'. {folder}/settings\ncd "$HOME"\necho "Welcome to the board"\nexec /bin/sh -c "$SSH_ORIGINAL_COMMAND"\n'
    )
    for script in (python, land):
        script.chmod(0o755)
    with sshd.serving(folder, land) as running:
        yield Board(server=running, home=home)


@pytest.fixture
def board(server: Board, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    """The board `ssh:pi`; after the test, nothing may be left on it."""
    monkeypatch.setenv(CONFIG, str(server.server.config))
    server.site("")
    server.settings("")
    yield server
    server.settings("")
    cache = server.home / ".cache"
    if cache.is_dir():
        cache.rmdir()
    wait_until(server.is_clean, timeout_s=15)


@pytest.fixture
def device(board: Board) -> Iterator[SshDevice]:
    """A session on the board, which is left at the end."""
    device = SshDevice("pi")
    yield device
    device.close()


def environment(board: Board) -> dict[str, str]:
    """Of a process that is to reach the board."""
    return {**os.environ, CONFIG: str(board.server.config)}
