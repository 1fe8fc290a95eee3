"""What quantization costs where: each operator of a quantized file beside its float form, on real images.

SQNR is 10·log10(Σ meant² / Σ (meant - found)²) over all elements and images. `propagated` is found with the errors of
everything before, `isolated` with the float form's values at the operator's inputs: what this operator alone loses by
its own weights and by the scale of its own result. So each number in the file is charged to exactly one operator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from pydantic import BaseModel, ConfigDict

from ..models.errors import Unsupported

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORST: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The numbers that a tensor's integers can stand for: from `low` to `high` in steps of `step`."""

    dtype: str
    low: float
    high: float
    step: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """A layer's weights in the float form and as the file has them, of one shape; `axis` has the output channels."""

    name: str
    dtype: str
    meant: NDArray[Any]
    found: NDArray[Any]
    axis: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One result of one operator of the file; `grid` is that of its integers, None where it is float.

    `arithmetic` is the dtype that it computes in. What `moves` gives the integers that it takes, on the same grid, and
    loses nothing by itself. A `fixed` grid is the format's and not the calibration's. `remark` says what in the file
    contradicts itself there.
    """

    name: str
    kind: str
    arithmetic: str
    grid: Grid | None = None
    factor: Factor | None = None
    moves: bool = False
    fixed: bool = False
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """An operator's result for one image; `found` is None where the file as a whole is not run."""

    meant: NDArray[Any]
    isolated: NDArray[Any]
    found: NDArray[Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one image gave: `values` of every operator in their order, and the file's `outputs` in the model's terms."""

    values: Sequence[Values]
    outputs: Sequence[NDArray[Any]] | None


class Probe(Protocol):
    """A quantized file and its float form, opened so that every operator can be looked at."""

    @property
    def operators(self) -> Sequence[Operator]:
        """In the order of the file."""

    @property
    def left_out(self) -> Sequence[str]:
        """Results without a counterpart in the float form."""

    @property
    def notes(self) -> Sequence[str]:
        """What could not be done, in lines for people."""

    def run(self, feed: NDArray[Any]) -> Run:
        """Both forms, and each operator alone, on the model's own input: float32 (1, channels, height, width)."""

    def alone(self, feed: NDArray[Any]) -> Sequence[Values]:
        """The values of `run` without those of the quantized file as a whole, which take longest."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class WeightLoss(_Record):
    """Of a layer's weights: SQNR of all, and of the worst output channel that is not as good as dead."""

    name: str
    dtype: str
    sqnr_db: float
    worst_channel: int
    worst_channel_db: float


class Loss(_Record):
    """Of one operator: ranges are (least, largest) in real numbers, `clipped` the share of values outside of `held`.

    `held` is what its integers can stand for, null for a float result. `suspicious`: rounding does not explain this, or
    the file contradicts itself; `remark` says how.
    """

    name: str
    kind: str
    arithmetic: str
    isolated_db: float
    propagated_db: float | None
    seen: tuple[float, float]
    held: tuple[float, float] | None
    clipped: float
    weight: WeightLoss | None
    remark: str
    suspicious: bool


class Bars(_Record):
    """Shares of values in equal bins from `low` to `high`, of the float form and, for weights, of the file."""

    low: float
    high: float
    meant: tuple[float, ...]
    found: tuple[float, ...] | None = None


class Picture(_Record):
    """How the values of one operator are spread; `place` is its place among the operators."""

    place: int
    activation: Bars
    weight: Bars | None


class OutputLoss(_Record):
    """Of the model's outputs against the original model's; `agreeing` images have the same first class."""

    sqnr_db: float
    agreeing: int


class Losses(_Record):
    """The report: operators in the order of the file, pictures of the worst; `left_out` have no float counterpart."""

    images: int
    output: OutputLoss | None
    operators: tuple[Loss, ...]
    pictures: tuple[Picture, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def refuse_floats(path: Path, precision: str, *, among: Sequence[str] = ("fp32", "fp16")) -> None:
    """Raises `Unsupported` for a file in whose precision nothing is quantized."""
    if precision in among:
        raise Unsupported(f"{path} is {precision}: nothing is quantized in it", "give an artifact of another precision")


def sqnr_db(signal: float, noise: float) -> float:
    """10·log10(signal / noise) of two sums of squares: infinite without noise, -infinite for noise that is NaN."""
    if noise == 0:
        return math.inf
    if not math.isfinite(noise) or signal == 0:
        return -math.inf
    return 10 * math.log10(signal / noise)


def worst(operators: Sequence[Loss], count: int = WORST) -> list[int]:
    """The places of the operators that lose most by themselves, suspicious ones before all others."""

    def rank(place: int) -> tuple[bool, float]:
        return not operators[place].suspicious, operators[place].isolated_db

    return sorted(range(len(operators)), key=rank)[:count]
