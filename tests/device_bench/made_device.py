"""A device that answers every job at once, as another machine would."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from evit_edge.device_bench.device import DeviceInfo, Finished
from evit_edge.device_bench.job import Done, Measuring, OutputsJob, TimeJob
from evit_edge.device_bench.record import Memory, Timing

from .conftest import make_trial


class MadeDevice:
    """`on_job` is called before each answer, and may raise; `timing` is what a timed job answers."""

    python = ""

    def __init__(self, info: DeviceInfo, *, on_job: Callable[[], None] = lambda: None) -> None:
        self.timing: Callable[[], Timing] = lambda: make_trial().timing
        self.jobs: list[str] = []
        self.is_interrupted = False
        self._info, self._on_job = info, on_job
        self.temperatures: list[float] = []

    def info(self) -> DeviceInfo:
        if not self.temperatures:
            return self._info
        return self._info.model_copy(update={"temperature_c": self.temperatures.pop(0)})

    def runtimes(self) -> Sequence[str]:
        return ["onnxruntime"]

    def answer(self, job: Measuring | OutputsJob, reply: Path, *, timeout_s: float) -> None:
        self._on_job()
        self.jobs.append(job.mode)
        said: Timing | Memory | Done = Memory(before_bytes=1, peak_bytes=2)
        if isinstance(job, TimeJob):
            said = self.timing()
        reply.write_text(json.dumps({"answer": json.loads(said.model_dump_json())}))

    def push(self, source: Path) -> str:
        return str(source)

    def pull(self, source: str, target: Path) -> None:
        pass

    def run(self, command: Sequence[str], *, timeout_s: float) -> Finished:
        return Finished(returncode=0, tail="")

    def interrupt(self) -> None:
        self.is_interrupted = True
