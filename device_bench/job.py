"""What is asked of a fresh process, and how it is asked: a JSON file there, a JSON file back."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Final, Generic, Literal, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ..converters import child
from ..models.errors import DeviceFailed
from .device import Device
from .record import Failure

MODULE: Final = "evit_edge.device_bench.trial"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Opened(_Record):
    artifact: str
    runtime: str
    threads: int = Field(ge=1)


class _Fed(_Opened):
    batch: int = Field(ge=1)
    seed: int


class TimeJob(_Fed):
    """Time the artifact; the answer is a `record.Timing`. `effort` is a name of `protocol.EFFORTS`."""

    mode: Literal["time"] = "time"
    effort: str


class MemoryJob(_Fed):
    """Look how much memory the artifact takes; the answer is a `record.Memory`."""

    mode: Literal["memory"] = "memory"


class EnergyJob(_Fed):
    """Count the joules of an inference; the answer is a `record.Energy`."""

    mode: Literal["energy"] = "energy"


class SustainedJob(_Fed):
    """Run without a pause for `duration_s` seconds; the answer is a `record.Sustained`."""

    mode: Literal["sustained"] = "sustained"
    duration_s: float = Field(gt=0)


class ProfileJob(_Fed):
    """Look at the time of every operator; the answer is a `record.Profile`."""

    mode: Literal["profile"] = "profile"


class OutputsJob(_Opened):
    """Run the artifact on the arrays of `inputs` and save `outputs`, both `.npz` by position; answered by `Done`."""

    mode: Literal["outputs"] = "outputs"
    inputs: str
    outputs: str


Measuring = TimeJob | MemoryJob | EnergyJob | SustainedJob | ProfileJob
Job = Annotated[Measuring | OutputsJob, Field(discriminator="mode")]
JOB: Final[TypeAdapter[Measuring | OutputsJob]] = TypeAdapter(Job)

Answer = TypeVar("Answer", bound=BaseModel)


class Done(_Record):
    """It is done, and there is nothing more to say."""


class Reply(_Record, Generic[Answer]):
    """What comes back: one of the two."""

    answer: Answer | None = None
    failure: Failure | None = None


@runtime_checkable
class Foreign(Protocol):
    """A device without this package: it does a job in its own way, with what it can be given."""

    def runtimes(self) -> Sequence[str]:
        """The names of the runtimes that are there, those first that tell more."""

    def answer(self, job: Measuring | OutputsJob, reply: Path, *, timeout_s: float) -> None:
        """Do `job`, whose paths are of this machine, and write a `Reply` to `reply`; raises `DeviceFailed`."""


def ask(device: Device, job: Measuring | OutputsJob, *, answer: type[Answer], timeout_s: float) -> Answer:
    """Run `job`, with paths of this machine, in a fresh process on `device`; raises the error met there, or its own."""
    with tempfile.TemporaryDirectory(prefix="evit-edge-") as scratch:
        question, reply = Path(scratch, "job.json"), Path(scratch, "reply.json")
        if isinstance(device, Foreign):
            device.answer(job, reply, timeout_s=timeout_s)
            return _unwrap(reply, answer)
        question.write_text(job.model_dump_json())
        there = device.push(question)
        reply_there = str(PurePosixPath(there).with_name(reply.name))
        # -P: a file of the user's current folder must not stand in for a package.
        finished = device.run([device.python, "-P", "-m", MODULE, there, reply_there], timeout_s=timeout_s)
        if finished.returncode != 0:
            raise DeviceFailed(f"{job.runtime} {child.how_it_ended(finished.returncode, finished.tail)}")
        device.pull(reply_there, reply)
        return _unwrap(reply, answer)


def _unwrap(reply: Path, answer: type[Answer]) -> Answer:
    try:
        said = Reply[answer].model_validate_json(reply.read_bytes())  # type: ignore[valid-type]
    except (OSError, ValidationError) as error:
        raise DeviceFailed("the process ended without a proper answer") from error
    if said.failure:
        raise said.failure.error()
    if said.answer is None:
        raise DeviceFailed("the process ended with an empty answer")
    return said.answer
