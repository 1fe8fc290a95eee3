"""Fresh processes: `ask` on the benchmark's side, `serve` and `cost` in the child, which may be in any environment.

The child's side needs nothing but Python: the peers' environment has none of ours.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).resolve().parents[1]
LONGEST_REASON: Final = 200

Job = Mapping[str, Any]
Answer = dict[str, Any]


class Failed(Exception):
    """The child died, took too long, or said why it could not."""


def ask(python: str, part: str, job: Job, *, timeout_s: float) -> Answer:
    """What `part` (a module of this folder), in a fresh process of `python`, answers to `job`; raises `Failed`."""
    from evit_edge.converters import child

    with tempfile.TemporaryDirectory(prefix="evit-edge-") as folder:
        files = [str(Path(folder, name)) for name in ("job.json", "answer.json")]
        Path(files[0]).write_text(json.dumps(job))
        command = ["env", f"PYTHONPATH={FOLDER}", python, "-m", f"tflite_parts.{part}", *files]
        code, tail = child.run(command, timeout_s=timeout_s)
        if code is None:
            raise Failed(f"took longer than {timeout_s:.0f} s")
        if code != 0 or not Path(files[1]).exists():
            raise Failed(child.how_it_ended(code, tail)[:LONGEST_REASON])
        answer: Answer = json.loads(Path(files[1]).read_text())
    if "error" in answer:
        raise Failed(answer["error"])
    return answer


def serve(works: Mapping[str, Callable[[Job], Answer]]) -> None:
    """Answer the job that stands on the command line with the work of its `kind`; an exception is an answer too."""
    job_file, answer_file = (Path(argument) for argument in sys.argv[1:3])
    job = json.loads(job_file.read_text())
    try:
        answer = works[job["kind"]](job)
    except Exception as error:
        # A tool that cannot do it is a row of the table with its reason, whatever it raised.
        said = " ".join(f"{type(error).__name__}: {error}".split())
        answer = {"error": said[:LONGEST_REASON]}
    answer_file.write_text(json.dumps(answer))


def cost(work: Callable[[], object]) -> Answer:
    """Seconds of wall and of CPU that `work` takes, children included, and the peak memory of this process so far."""
    wall, cpu = time.perf_counter(), _cpu_s()
    work()
    return {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": _cpu_s() - cpu,
        "peak_bytes": peak_bytes(),
        "load_average": os.getloadavg()[0],
    }


def _cpu_s() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_bytes() -> int:
    """The largest resident memory that this process, or any one child of it that ended, ever had."""
    unit = 1 if sys.platform == "darwin" else 1024
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)):
        # Linux counts into ru_maxrss what the parent had when it started this process.
        own = int(found[1])
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) * unit
