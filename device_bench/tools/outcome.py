"""What another benchmark tool measured, whichever tool it was. Values only, kept on disk."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from ..record import Count, OperatorTime, Record

Tool = Literal["benchmark_model", "litert", "onnxruntime_perf_test", "benchncnn"]
Time = Annotated[float, Field(ge=0)]
# What was added can be negative; no address has more than 64 bits.
Bytes = Annotated[int, Field(gt=-(2**63), lt=2**63)]
# Six digits are what C++ prints of a number by default.
ROUNDING: Final = 1e-5


class Footprint(Record):
    """Bytes of memory: what loading added, what loading and running added, and the largest of the whole process."""

    init_bytes: Bytes | None = None
    overall_bytes: Bytes | None = None
    peak_bytes: Annotated[Bytes, Field(gt=0)] | None = None


class Delegation(Record):
    """What the tool says of a delegate; null is what it does not tell.

    `whole`: it runs the whole graph. `kernels`: as how many nodes, each a run of the file's nodes; 0 is none of it.
    """

    delegate: str | None
    whole: bool | None = None
    kernels: Annotated[int, Field(ge=0)] | None = None


class Outcome(Record):
    """Summary figures of one run, in nanoseconds; null or empty is what this generation of the tool does not tell.

    `first_ns` is the very first inference, `warm_up_ns` the mean of `warm_ups` inferences that are not among the
    `inferences` behind the other figures. `percentiles_ns` has keys such as `p50` and `p99.9`, in rising order.
    `ignored_flags` is what the tool was told and did not know: its figures are then of something else than was asked.
    `operators`, in the order of a run, have mean times, with the tool's profiler on.
    """

    tool: Tool
    generation: str
    model: str | None = None
    init_ns: Time | None = None
    first_ns: Time | None = None
    warm_ups: Count | None = None
    warm_up_ns: Time | None = None
    inferences: Count
    mean_ns: Annotated[float, Field(gt=0)]
    min_ns: Time | None = None
    max_ns: Time | None = None
    std_ns: Time | None = None
    percentiles_ns: dict[str, Time] = Field(default_factory=dict)
    memory: Footprint | None = None
    delegations: tuple[Delegation, ...] = ()
    ignored_flags: tuple[str, ...] = ()
    operators: tuple[OperatorTime, ...] = ()

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for between in ((self.mean_ns,), self.percentiles_ns.values()):
            figures = (self.min_ns, *between, self.max_ns)
            told = [each for each in figures if each is not None]
            if any(low > high * (1 + ROUNDING) for low, high in pairwise(told)):
                raise ValueError("minimum, mean, percentiles and maximum contradict one another")
        return self
