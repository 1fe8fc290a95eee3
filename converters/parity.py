"""The parity gate: how far an artifact's outputs are from the original model's, and how far is too far.

Every figure is the worst over the samples of a group, never an average that one bad image could hide in; the
agreements are shares of samples. `docs/parity.md` gives the reasons for the thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ..models.errors import ParityFailed
from .artifact import ParityRecord, ParityRow
from .golden import IMAGES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .artifact import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """What a group of inputs must reach; the agreement counts on real images alone."""

    cosine: float
    relative_l2: float
    top1: float


THRESHOLDS: Final[Mapping[Precision, Threshold]] = {
    "fp32": Threshold(cosine=0.999_999, relative_l2=1e-3, top1=1.0),
    "fp16": Threshold(cosine=0.999_9, relative_l2=1.5e-2, top1=0.97),
}


def compare(
    expected: Sequence[NDArray[Any]], actual: Sequence[NDArray[Any]], *, inputs: str, threshold: Threshold
) -> ParityRow:
    """Outputs of the original and of the artifact, each (n, …), for one group of inputs.

    SQNR = 10·log10(Σ expected² / Σ (expected - actual)²) in dB, None where nothing differs. Top-k agreement is
    the share of the original's k first classes that the artifact puts among its own k first, over the last axis
    of the first output. Raises `ParityFailed` where the shapes differ.
    """
    import numpy as np

    for want, got in zip(expected, actual, strict=True):
        if want.shape != got.shape:
            raise ParityFailed(f"{inputs}: the model gives {want.shape}, the artifact {got.shape}")
    count = len(expected[0])
    want, got = (
        np.concatenate([part.reshape(count, -1).astype(np.float64) for part in parts], axis=1)
        for parts in (expected, actual)
    )
    with np.errstate(all="ignore"):
        error = np.linalg.norm(got - want, axis=1)
        norm = np.linalg.norm(want, axis=1)
        relative = np.where(error == 0, 0.0, error / norm)
        cosine = np.where(error == 0, 1.0, (want * got).sum(1) / (norm * np.linalg.norm(got, axis=1)))
    # A NaN or infinity in the artifact is as wrong as can be, wherever it stands.
    relative = np.nan_to_num(relative, nan=np.inf, posinf=np.inf)
    cosine = np.nan_to_num(cosine, nan=-1, posinf=-1, neginf=-1).clip(-1, 1)
    max_abs = np.nan_to_num(np.abs(got - want), nan=np.inf, posinf=np.inf).max()
    worst = int(relative.argmax())
    top1, top5 = (_agreement(expected[0], actual[0], k) for k in (1, 5))
    return ParityRow(
        inputs=inputs,
        count=count,
        max_abs=float(max_abs),
        relative_l2=float(relative.max()),
        cosine=float(cosine.min()),
        sqnr_db=float(-20 * np.log10(relative.max())) if relative.max() > 0 else None,
        top1=top1,
        top5=top5,
        worst_index=worst,
        passed=bool(
            relative.max() <= threshold.relative_l2
            and cosine.min() >= threshold.cosine
            and (inputs != IMAGES or top1 >= threshold.top1)
        ),
    )


def judge(
    expected: Mapping[str, Sequence[NDArray[Any]]],
    actual: Mapping[str, Sequence[NDArray[Any]]],
    *,
    precision: Precision,
    engine: str,
) -> ParityRecord:
    """The verdict over all groups of inputs for a precision; `engine` is the runtime that gave `actual`."""
    threshold = THRESHOLDS[precision]
    rows = tuple(compare(expected[group], actual[group], inputs=group, threshold=threshold) for group in expected)
    return ParityRecord(engine=engine, passed=all(row.passed for row in rows), rows=rows)


def complaint(record: ParityRecord, precision: Precision) -> str:
    """One line for a verdict that failed: how far off, on which input, and what was needed."""
    worst = max((row for row in record.rows if not row.passed), key=lambda row: row.relative_l2)
    need = THRESHOLDS[precision]
    return (
        f"{worst.inputs}[{worst.worst_index}] is furthest off: cosine {worst.cosine:.6f} (needs ≥ {need.cosine:g}), "
        f"relative L2 {worst.relative_l2:.2e} (needs ≤ {need.relative_l2:g}), max |Δ| {worst.max_abs:.3g}, "
        f"top-1 agreement {worst.top1:.1%}, in {record.engine}"
    )


def _agreement(expected: NDArray[Any], actual: NDArray[Any], k: int) -> float:
    import numpy as np

    k = min(k, expected.shape[-1])
    want, got = (
        np.argsort(-np.nan_to_num(scores, nan=-np.inf), axis=-1, kind="stable")[..., :k].reshape(-1, k)
        for scores in (expected, actual)
    )
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(want, got, strict=True)]))
