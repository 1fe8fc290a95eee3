"""The parity gate: how far an artifact's outputs are from the original model's, and how far is too far.

Every figure is the worst over the samples of a group, never an average that one bad image could hide in; the
agreements are shares of samples. `docs/parity.md` gives the reasons for the thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from ..models.errors import ParityFailed
from . import golden, tensors
from .artifact import Artifact, ParityRecord, ParityRow
from .golden import BEYOND, IMAGES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .artifact import Precision


class Execute(Protocol):
    """What runs an artifact; handed in, since engines are the business of a folder above."""

    def __call__(
        self, folder: Path, feeds: Mapping[str, NDArray[Any]], *, runtime: str | None = None
    ) -> Sequence[NDArray[Any]]:
        """The model's inputs by name, each (n, …), to its outputs (n, …); `runtime` None is the target's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """What the worst sample of a group of inputs must reach; the agreement counts on real images alone.

    Without `beyond` the inputs that are larger than any image are shown and not judged: integers end where the
    calibration ended.
    """

    cosine: float
    relative_l2: float
    top1: float
    beyond: bool = True


THRESHOLDS: Final[Mapping[Precision, Threshold]] = {
    "fp32": Threshold(cosine=0.999_999, relative_l2=1e-3, top1=1.0),
    "fp16": Threshold(cosine=0.9995, relative_l2=3.2e-2, top1=0.97),
    "w8": Threshold(cosine=0.99, relative_l2=0.142, top1=0.5),
    "pal8": Threshold(cosine=0.99, relative_l2=0.142, top1=0.5),
    "pal6": Threshold(cosine=0.95, relative_l2=0.317, top1=0.5),
    "pal4": Threshold(cosine=0.8, relative_l2=0.65, top1=0.5),
    "int8": Threshold(cosine=0.95, relative_l2=0.317, top1=0.5, beyond=False),
    "mixed": Threshold(cosine=0.95, relative_l2=0.317, top1=0.5, beyond=False),
    "w8a16": Threshold(cosine=0.95, relative_l2=0.317, top1=0.5, beyond=False),
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
    relative, cosine, max_abs = _distances(expected, actual)
    top1, top5 = (_agreement(expected[0], actual[0], k) for k in (1, 5))
    judged = threshold.beyond or inputs != BEYOND
    reached = relative.max() <= threshold.relative_l2 and cosine.min() >= threshold.cosine
    return ParityRow(
        inputs=inputs,
        count=len(relative),
        max_abs=max_abs,
        relative_l2=float(relative.max()),
        cosine=float(cosine.min()),
        sqnr_db=float(-20 * np.log10(relative.max())) if relative.max() > 0 else None,
        top1=top1,
        top5=top5,
        worst_index=int(relative.argmax()),
        judged=judged,
        limit=threshold.relative_l2,
        passed=bool(not judged or (reached and (inputs != IMAGES or top1 >= threshold.top1))),
    )


def _distances(
    expected: Sequence[NDArray[Any]], actual: Sequence[NDArray[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Relative L2 and cosine of each sample over all outputs together, and the largest |Δ| of all."""
    import numpy as np

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
    return relative, cosine, float(np.nan_to_num(np.abs(got - want), nan=np.inf, posinf=np.inf).max())


def judge(
    expected: Mapping[str, Sequence[NDArray[Any]]],
    actual: Mapping[str, Sequence[NDArray[Any]]],
    *,
    precision: Precision,
    engine: str,
    halves: Mapping[str, float] | None = None,
) -> ParityRecord:
    """The verdict over all groups of inputs for a precision; `engine` is the runtime that gave `actual`.

    `halves` are by group what the original itself loses in half precision, as a relative L2: twice that is allowed
    where it is more than the threshold, since inputs larger than any image can make a good model chaotic.
    """
    rows = tuple(
        compare(
            expected[group],
            actual[group],
            inputs=group,
            threshold=_widened(THRESHOLDS[precision], (halves or {}).get(group, 0.0)),
        )
        for group in expected
    )
    return ParityRecord(engine=engine, passed=all(row.passed for row in rows), rows=rows)


def _widened(threshold: Threshold, half: float) -> Threshold:
    allowed = 2 * half
    if allowed <= threshold.relative_l2:
        return threshold
    # Both limits say the same: ‖Δ‖ / ‖want‖ = √(2 - 2·cosine).
    return replace(threshold, relative_l2=allowed, cosine=1 - allowed**2 / 2)


def check(artifact: Artifact, *, execute: Execute, engine: str, against: Artifact | None = None) -> ParityRecord:
    """Run the artifact in `engine` on its golden inputs and compare with the original's answers.

    With `against`, that artifact's answers to the same inputs take the original's place. Says, does not raise.
    """
    record = artifact.manifest.inputs[0]
    feeds = {group: feed for group, feed in golden.feeds(artifact).items() if tensors.holds(record, feed[record.name])}
    actual = _answers(partial(execute, runtime=engine), artifact.folder, feeds)
    known = golden.outputs(artifact) if against is None else _answers(execute, against.folder, feeds)
    expected = {group: known[group] for group in feeds}
    wanted, given = ({g: _comparable(artifact, parts) for g, parts in side.items()} for side in (expected, actual))
    precision = artifact.manifest.precision
    halves = golden.halves(artifact) if precision == "fp16" else None
    return judge(wanted, given, precision=precision, engine=engine, halves=halves)


def _answers(
    execute: Callable[..., Sequence[NDArray[Any]]], folder: Path, feeds: Mapping[str, Mapping[str, NDArray[Any]]]
) -> dict[str, list[NDArray[Any]]]:
    """An artifact's outputs by group; all groups in one run, since an engine takes seconds to start."""
    import numpy as np

    groups = list(feeds.values())
    joined = {name: np.concatenate([feed[name] for feed in groups]) for name in groups[0]}
    ends = np.cumsum([len(next(iter(feed.values()))) for feed in groups])[:-1]
    outputs = [np.split(output, ends) for output in execute(folder, joined)]
    return {group: [parts[index] for parts in outputs] for index, group in enumerate(feeds)}


def at_least(share: float, digits: int = 7) -> str:
    """A cosine or an agreement for people, rounded down: what is nearly equal must not read as equal."""
    return f"{math.floor(share * 10**digits + 1e-9) / 10**digits:.{digits}f}"


def percent(share: float) -> str:
    """An agreement for people in per cent, rounded down to a tenth."""
    return f"{at_least(100 * share, 1)} %"


def complaint(record: ParityRecord) -> str:
    """One line for a verdict that failed: how far off, on which input, and what was needed."""
    worst = max((row for row in record.rows if not row.passed), key=lambda row: row.relative_l2)
    return (
        f"{worst.inputs}[{worst.worst_index}] is furthest off: "
        f"cosine {at_least(worst.cosine)}, "
        f"relative L2 {worst.relative_l2:.2e} (needs ≤ {worst.limit:.3g}), max |Δ| {worst.max_abs:.3g}, "
        f"top-1 agreement {percent(worst.top1)}, in {record.engine}"
    )


def _comparable(artifact: Artifact, outputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Probabilities where the file gives some: it does not hold the constant that logits have beside them."""
    return [
        tensors.softmax(output) if record.softmax else output
        for record, output in zip(artifact.manifest.outputs, outputs, strict=True)
    ]


def _agreement(expected: NDArray[Any], actual: NDArray[Any], k: int) -> float:
    import numpy as np

    k = min(k, expected.shape[-1])
    want, got = (
        np.argsort(-np.nan_to_num(scores, nan=-np.inf), axis=-1, kind="stable")[..., :k].reshape(-1, k)
        for scores in (expected, actual)
    )
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(want, got, strict=True)]))
