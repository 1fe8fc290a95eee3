"""What one fresh process says of what it measured: raw figures, and how the machine was. Values only, kept on disk."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..models.errors import EdgeError, error_named

Nanoseconds = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
FixedPerformance = Literal["applied", "unsupported", "failed"]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Record(BaseModel):
    """What is written to disk: nothing unknown in it, and nothing that is not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Failure(Record):
    """An `EdgeError`, on disk."""

    kind: str
    message: str
    hint: str = ""

    @classmethod
    def of(cls, error: EdgeError) -> Failure:
        """The record of `error`."""
        return cls(kind=type(error).__name__, message=error.message, hint=error.hint)

    def error(self) -> EdgeError:
        """The error again."""
        return error_named(self.kind)(self.message, self.hint)


class Placement(Record):
    """What `delegate` (null: none was wanted) runs of the file's nodes, in how many partitions: each costs a hand-over.

    Only nodes of the main graph count; a partition is a run of nodes that the delegate does in one go. Null is what a
    tool does not tell: `nodes_taken` of a part of the graph, or also `partitions` of a delegate that it only names.
    """

    delegate: str | None
    nodes_taken: Annotated[int, Field(ge=0)] | None
    nodes: Annotated[int, Field(ge=0)]
    partitions: Annotated[int, Field(ge=0)] | None


class Conditions(Record):
    """How busy, fast and warm the machine was at a moment; null is what it does not tell.

    `load_average` is over one minute; `frequency_mhz` is the fastest core's; `temperature_c` the hottest sensor's;
    `throttled` the bits of a Raspberry Pi's `get_throttled`; `stolen_s` the CPU time that a hypervisor gave to others
    since it started; `probe_ns` what a fixed piece of work took, the best of a few times. What a phone tells: Android's
    `thermal_status` (0 none, 1 light, 2 moderate … 6 shutdown), its battery, and whether those figures were `faked` by
    a command; `fixed_performance` is what became of the mode of this name, set for the time of the process.
    """

    load_average: float | None = None
    frequency_mhz: float | None = None
    temperature_c: float | None = None
    throttled: int | None = None
    stolen_s: float | None = None
    probe_ns: Nanoseconds | None = None
    thermal_status: Annotated[int, Field(ge=0, le=6)] | None = None
    battery_percent: Annotated[float, Field(ge=0, le=100)] | None = None
    battery_c: float | None = None
    faked: bool | None = None
    fixed_performance: FixedPerformance | None = None


class Summary(Record):
    """What a tool told of its `inferences`, instead of each of them: nanoseconds of one, null what it does not tell.

    `generation` is that of its output, `binary_sha256` that of its file, `arguments` those that it was given, without
    the places of files. Its inputs were its own random ones.
    """

    tool: str
    generation: str
    binary_sha256: Sha256
    arguments: tuple[str, ...]
    warm_ups: Count
    inferences: Count
    mean_ns: Annotated[float, Field(gt=0)]
    min_ns: Annotated[float, Field(ge=0)] | None = None
    max_ns: Annotated[float, Field(ge=0)] | None = None
    std_ns: Annotated[float, Field(ge=0)] | None = None
    percentiles_ns: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)


class Timing(Record):
    """What one fresh process timed, in nanoseconds of a monotonic clock.

    `load_ns` opens the artifact, with the engine already imported; `first_ns` is the first inference;
    `warm_up_ns` are single inferences; each of `samples_ns` is a block of `block` inferences. For each of them,
    `cpu_ns` is the CPU time of all threads, and `switches` counts how often the system took a thread's CPU away
    (involuntary context switches). `inputs` says what was fed: `images` of the artifact, or `noise` (standard normal,
    from the session's seed), with `input_dtypes` as the engine was given them and the SHA-256 of their bytes.
    `cores` are the logical CPUs that the process was bound to. `placement` is null where the engine has no delegates,
    or does not tell. What a record of schema 1 does not have is null or empty.

    With a `summary`, a tool did the timing and kept the single figures to itself: `samples_ns` is the median that it
    tells, or its mean where it tells none, and `warm_up_ns` the mean of the warm-up, once each; whether that had
    converged is null.
    """

    inputs: Literal["images", "noise"]
    input_dtypes: tuple[str, ...] = ()
    inputs_sha256: Sha256 | None = None
    cores: tuple[int, ...] | None = None
    load_ns: Nanoseconds
    first_ns: Nanoseconds
    warm_up_ns: tuple[Nanoseconds, ...]
    warm_up_converged: bool | None
    block: Count
    samples_ns: Annotated[tuple[Annotated[int, Field(gt=0)], ...], Field(min_length=1)]
    cpu_ns: tuple[Nanoseconds, ...] | None = None
    switches: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    placement: Placement | None = None
    before: Conditions | None = None
    after: Conditions | None = None
    summary: Summary | None = None

    @property
    def per_call_ns(self) -> list[float]:
        """Nanoseconds per inference of each sample."""
        return [ns / self.block for ns in self.samples_ns]

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        for figures in (self.cpu_ns, self.switches):
            if figures is not None and len(figures) != len(self.samples_ns):
                raise ValueError("a figure of each sample, or none at all")
        if self.summary and (len(self.samples_ns), self.block, self.warm_up_converged) != (1, 1, None):
            raise ValueError("beside a summary there is one sample, of one inference")
        if not self.summary and self.warm_up_converged is None:
            raise ValueError("only a tool's summary leaves open whether the warm-up converged")
        return self


class Memory(Record):
    """Peak resident memory of a process of its own, in bytes: before the artifact was opened, and at the end."""

    before_bytes: Annotated[int, Field(ge=0)]
    peak_bytes: Annotated[int, Field(ge=0)]

    @property
    def added_bytes(self) -> int:
        """What opening and running the artifact added to the peak."""
        return self.peak_bytes - self.before_bytes


class Energy(Record):
    """Joules that `source` counted, in repetitions of `inferences` runs each, and its watts while nothing was run.

    A counter of a whole chip or board counts everything that it does: nothing is subtracted.
    """

    source: str
    inferences: Count
    joules: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)]
    idle_watts: Annotated[float, Field(ge=0)]


class Sustained(Record):
    """Latency under lasting load: of each window of `window_s` seconds, one after another, the median of its calls.

    `calls` counts them; `temperatures_c` are the hottest sensor's at the end of the window, null without one.
    """

    window_s: Annotated[float, Field(gt=0)]
    medians_ns: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)]
    calls: tuple[Count, ...]
    temperatures_c: tuple[float | None, ...]


class OperatorTime(Record):
    """One operator: its name in the file or module, its type, and nanoseconds a run, the median over runs."""

    name: str
    kind: str
    ns: Annotated[float, Field(ge=0)]


class Profile(Record):
    """Every operator in the order of a run, with the engine's profiler on: shares are worth more than the times."""

    runs: Count
    operators: tuple[OperatorTime, ...]
