"""Boards are those that the user's own files name, and each is called only if that was asked for."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_edge.device_bench.ssh import known, roll
from evit_edge.device_bench.ssh.known import Known, hosts, listed
from evit_edge.device_bench.ssh.link import CONFIG
from evit_edge.models.errors import FileProblem

from .plain_board import Board, board, environment, server

__all__ = ["board", "server"]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for devices.toml."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "evit-edge" / "devices.toml"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_hosts_are_names_and_no_patterns(tmp_path: Path) -> None:
    config = write(
        tmp_path / "config",
        'Host pi "jetson nano" # Host no\n  HostName 10.0.0.2\n#Host never\nhost=odroid\nHost *.lan !pi web?\n'
        'Match host other\nHOST pi rock\nHost "open\n',
    )
    assert hosts(config) == ["pi", "jetson nano", "odroid", "rock"]
    assert hosts(tmp_path / "none") == []


@given(st.text())
def test_any_text_is_a_configuration(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    config = tmp_path_factory.getbasetemp() / "any-config"
    config.write_text(text, errors="replace")
    assert not any(set(host) & set("*?!") for host in hosts(config))


def test_a_board_that_both_files_name_is_one_with_its_python(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONFIG, str(write(tmp_path / "config", "Host pi\nHost rock\n")))
    write(settings, 'schema = 1\n[[device]]\naddress = "ssh:pi"\npython = "/opt/venv/bin/python"\n')
    assert known.boards() == [
        Known(address="ssh:pi", python="/opt/venv/bin/python", source="devices.toml"),
        Known(address="ssh:rock", source="config"),
    ]
    assert known.python_of("ssh:pi") == "/opt/venv/bin/python"
    assert known.python_of("ssh:rock") == "python3"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[device]", "line 1"),
        ('[[device]]\naddress = "pi"', "device.0.address"),
        ('[[device]]\naddress = "ssh:pi"\ncolour = 1', "device.0.colour"),
        ("schema = 2", "schema"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(settings: Path, text: str, says: str) -> None:
    with pytest.raises(FileProblem, match=says):
        listed(write(settings, text))


def test_a_board_is_called_only_if_asked_for(board: Board, settings: Path) -> None:
    write(settings, '[[device]]\naddress = "ssh:not a host"\n')
    quiet = roll.call(known.boards(), probe=False)
    assert [(each.address, each.state) for each in quiet] == [
        ("local", "reachable"),
        ("ssh:not a host", "not probed"),
        ("ssh:pi", "not probed"),
    ]
    _, wrong, pi = roll.call(known.boards(), probe=True)
    assert (wrong.state, pi.state) == ("unreachable", "reachable")
    assert wrong.failure
    assert pi.info
    assert "onnxruntime" in pi.info.versions


def test_the_command_lists_them(board: Board, settings: Path) -> None:
    for arguments in (["--json"], ["--probe", "-q"]):
        done = subprocess.run(
            [sys.executable, "-m", "evit_edge", "devices", *arguments],
            env={**environment(board), "XDG_CONFIG_HOME": str(settings.parent.parent)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        if arguments == ["--json"]:
            assert [each["address"] for each in json.loads(done.stdout)] == ["local", "ssh:pi"]
        else:
            assert "ssh:pi" in done.stdout
            assert "ai-edge-litert" in done.stdout
