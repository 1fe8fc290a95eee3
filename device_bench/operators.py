"""Where the time of a run goes: operators, kinds of operators, and how much of it is moving numbers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from .record import OperatorTime

Bucket = Literal["compute", "moving", "elementwise", "other"]
# The paper counts reshaping, element-wise addition, copying and normalization as memory-bound (Liu et al., CVPR 2023,
# section 2.1), and leaves open whether softmax, activations and scaling are: those have a bucket of their own.
COMPUTE: Final = ("conv", "gemm", "matmul", "::linear", "addmm", "bmm", "baddbmm", "::mm")
MOVING: Final = (
    "reshape", "transpose", "split", "slice", "concat", "::cat", "pad", "add", "norm", "reorder", "copy", "clone",
    "contiguous", "permute", "gather", "squeeze", "cast", "expand", "::to", "view", "unfold",
)  # fmt: skip
ELEMENTWISE: Final = (
    "softmax", "relu", "gelu", "sigmoid", "swish", "clip", "mul", "div", "sub", "mean", "pool", "quantize",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """All operators of one type: how many, nanoseconds a run, and the share of the whole."""

    name: str
    bucket: Bucket
    count: int
    ns: float
    share: float


def kinds(operators: Sequence[OperatorTime]) -> list[Kind]:
    """By type, the longest first."""
    whole = sum(each.ns for each in operators) or 1.0
    times: dict[str, list[float]] = {}
    for each in operators:
        times.setdefault(each.kind, []).append(each.ns)
    found = [
        Kind(name=name, bucket=bucket(name), count=len(ns), ns=sum(ns), share=sum(ns) / whole)
        for name, ns in times.items()
    ]
    return sorted(found, key=lambda kind: kind.ns, reverse=True)


def memory_bound(found: Sequence[Kind]) -> tuple[float, float]:
    """The share of the time that is memory-bound, strictly and with element-wise functions and pooling."""
    strict = sum(kind.share for kind in found if kind.bucket == "moving")
    return strict, strict + sum(kind.share for kind in found if kind.bucket == "elementwise")


def bucket(kind: str) -> Bucket:
    """What an operator's type is counted as; fused ones are what they are named after first."""
    name = kind.lower()
    # A product with an addition or an activation fused into it is a product.
    for words, found in ((COMPUTE, "compute"), (ELEMENTWISE, "elementwise"), (MOVING, "moving")):
        if any(word in name for word in words):
            return found  # type: ignore[return-value]
    return "other"
