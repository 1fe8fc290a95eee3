"""What a fresh process on a board does: `trial.py` itself, with what `plain.py` and `feeding.py` here stand in for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from ...converters import child
from ...models.errors import EdgeError
from .. import trial
from . import feeding

WORK: Final[dict[str, Callable[[Any], Any]]] = {
    "time": trial.timed,
    "memory": trial.weighed,
    "energy": trial.powered,
    "sustained": trial.sustained,
    "profile": trial.profiled,
}


def main(question: str, reply: str) -> None:
    """Do the job and write the reply; anything but an `EdgeError` is left to crash, and is reported as such."""
    child.die_with_parent()
    job = json.loads(Path(question).read_bytes(), object_hook=lambda fields: SimpleNamespace(**fields))
    try:
        said: dict[str, Any] = {"answer": (WORK | {"outputs": answered})[job.mode](job)}
    except EdgeError as error:
        said = {"failure": {"kind": type(error).__name__, "message": error.message, "hint": error.hint}}
    Path(reply).write_text(json.dumps(said, default=vars))


def answered(job: Any) -> dict[str, Any]:
    """Run all samples of the inputs, `job.chunk` at a time, which divides them, and save what the file gives."""
    import numpy as np

    runtime, artifact = feeding.prepared(job)
    feeds = feeding.noise(artifact, batch=0, seed=0)
    session = runtime.open(artifact, threads=job.threads)
    count = len(next(iter(feeds.values())))
    answers = [
        session.run({name: array[start : start + job.chunk] for name, array in feeds.items()})
        for start in range(0, count, job.chunk)
    ]
    np.savez(job.outputs, *(np.concatenate(parts) for parts in zip(*answers, strict=True)))
    return {}
