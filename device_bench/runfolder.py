"""The folder that a run file is carried out in: whose it is, its temporary files, and its results."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ..models.errors import FileProblem
from . import result
from .result import Result

RESULTS: Final = "results.jsonl"
COPY: Final = "run.toml"
SCRATCH: Final = ".scratch"


@contextmanager
def taken(out: Path, text: str) -> Iterator[None]:
    """`out` for the run file `text` alone: made if it is not there, locked, and with all temporary files inside of it.

    Raises `FileProblem` for a folder of another run file, or one that is in use.
    """
    with _locked(out, text):
        scratch, before = out / SCRATCH, (tempfile.tempdir, os.environ.get("TMPDIR"))
        # What a run that was killed has left.
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        tempfile.tempdir = os.environ["TMPDIR"] = str(scratch.resolve())
        try:
            yield
        finally:
            tempfile.tempdir = before[0]
            if before[1] is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before[1]
            shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _locked(out: Path, text: str) -> Iterator[None]:
    copy = out / COPY
    try:
        out.mkdir(parents=True, exist_ok=True)
        with copy.open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.seek(0)
            known = file.read()
            # A start of it alone is what a run that was killed here has left.
            if not text.startswith(known):
                raise FileProblem(f"{out} has the results of another run file", "name another --out, or delete it")
            file.write(text[len(known) :])
            file.flush()
            yield
    except BlockingIOError as error:
        raise FileProblem(f"{out} is in use by another run", "wait for it, or name another --out") from error
    except OSError as error:
        raise FileProblem(f"{out} cannot be used: {error.strerror or error}", "name another --out") from error


def finish(results: Sequence[Result], out: Path) -> None:
    """Write `out`/results.jsonl, complete or not at all, and take the journals away."""
    staging = out / SCRATCH / RESULTS
    for each in results:
        result.append(staging, each)
    staging.replace(out / RESULTS)
    remove_journals(out)


def remove_journals(out: Path) -> None:
    """Of a run that is finished."""
    for path in out.glob("trials-*.jsonl"):
        path.unlink()
