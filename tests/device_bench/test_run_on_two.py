"""One run file on this machine and on a board over ssh: side by side, in one table, and taken up again after a stop."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from evit_edge.device_bench.result import read

from .conftest import MakeArtifact, wait_until
from .plain_board import Board, board, environment, server

__all__ = ["board", "server"]


def test_this_machine_and_a_board_end_in_one_table(board: Board, make_artifact: MakeArtifact, tmp_path: Path) -> None:
    artifact, folder = make_artifact(), tmp_path / "out"
    file = tmp_path / "devices.toml"
    known = (
        f'effort = "quick"\ndevices = ["local", "ssh:pi"]\n[[artifact]]\npath = {json.dumps(str(artifact.folder))}\n'
    )
    file.write_text(known)
    command = [sys.executable, "-m", "evit_edge", "run", str(file), "--out", str(folder)]
    (tmp_path / "tmp").mkdir()
    known_environment = environment(board) | {"TMPDIR": str(tmp_path / "tmp")}
    process = subprocess.Popen(command, env=known_environment, stderr=subprocess.PIPE, text=True)
    journals = [folder / f"trials-{place}.jsonl" for place in range(2)]
    wait_until(lambda: all(each.exists() and len(each.read_text().splitlines()) > 2 for each in journals))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said.strip()) == (130, "interrupted")
    wait_until(board.is_clean_but_for_cache, timeout_s=15)
    kept = [len(each.read_text().splitlines()) for each in journals]
    done = subprocess.run(command, env=known_environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode in (0, 7), done.stderr
    rows = read(folder / "results.jsonl")
    assert [row.device.device for row in rows] == ["local", "ssh:pi"]
    assert all([trial.round for trial in row.trials] == list(range(6)) for row in rows)
    assert all(row.failure is None for row in rows)
    assert min(kept) > 2
    assert "ssh:pi" in done.stdout
    assert os.listdir(tmp_path / "tmp") == []  # noqa: PTH208
