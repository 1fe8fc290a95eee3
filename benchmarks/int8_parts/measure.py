"""What the files compute, how large they are, and how fast."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from evit_edge.converters import child, inspection
from evit_edge.converters.losses import sqnr_db
from evit_edge.device_bench import accuracy
from evit_edge.device_bench.statistics import median_interval
from evit_edge.models.errors import EdgeError

from .files import BASE, Entry, Images

if TYPE_CHECKING:
    from numpy.typing import NDArray

TIMEOUT_S: Final = 1800
AGAIN: Final = "again"
TIMED: Final = ("onnx", "tflite")


def answers(images: Images, path: Path | None, out: Path, *, batch: int) -> NDArray[Any]:
    """The logits (n, classes) of a file, or of the original for None, as they are in `out` or will be.

    Raises `EdgeError` where the file does not run.
    """
    import numpy as np

    if not out.exists():
        job = {
            "request": asdict(images.request),
            "path": path and str(path),
            "data": images.data and str(images.data.absolute()),
            "count": images.count,
            "batch": batch,
            "out": str(out),
        }
        child.call(f"{__package__}.answers", job, timeout_s=TIMEOUT_S)
    found: NDArray[Any] = np.load(out)
    return found


def compared(found: NDArray[Any], original: NDArray[Any], labels: NDArray[Any] | None) -> dict[str, Any]:
    """SQNR over all images and agreement of the first class; with labels top-1, the loss in points, and McNemar's p."""
    import numpy as np

    wanted = original.astype(np.float64)
    noise = wanted - found
    first, before = found.argmax(axis=1), original.argmax(axis=1)
    known: dict[str, Any] = {
        "sqnr_db": sqnr_db(float((wanted**2).sum()), float((noise**2).sum())),
        "agreement": float((first == before).mean()),
    }
    if labels is not None:
        paired = accuracy.paired(first, before, labels)
        known |= {"top1": asdict(accuracy.share(first[:, None], labels)), "points": paired.points, "p": paired.p}
    return known


def constant_db(original: NDArray[Any]) -> float:
    """SQNR of an answer that is the same for every image, the mean of all: how little a network can be worth."""
    import numpy as np

    wanted = original.astype(np.float64)
    return sqnr_db(float((wanted**2).sum()), float(((wanted - wanted.mean(axis=0)) ** 2).sum()))


def described(path: Path) -> dict[str, Any]:
    """Its size, the precision that it holds and the share of its MACs in int8, None where these cannot be read."""
    try:
        looked = inspection.look(path)
    except EdgeError:
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        return {"size_bytes": sum(file.stat().st_size for file in files), "holds": None, "int8_share": None}
    found = looked.inspection
    return {"size_bytes": looked.size_bytes, "holds": found.precision, "int8_share": found.int8_share}


def judge(
    entry: Entry, images: Images, folder: Path, *, original: NDArray[Any], labels: NDArray[Any] | None
) -> dict[str, Any]:
    """All that is known of a file beside its speed."""
    path = folder / entry.file
    out = folder / f"{entry.file}.{images.count}-{images.data_sha256[:16]}.npy"
    try:
        return {**described(path), **compared(answers(images, path, out, batch=entry.batch), original, labels)}
    except EdgeError as error:
        return {"missing": error.message}


def trials(
    settings: Mapping[tuple[str, str], tuple[Images, Mapping[str, Path]]],
    *,
    processes: int,
    seconds: float,
    seed: int,
    on_step: Callable[[str], None],
) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """For each setting, a model and a target: what fresh processes found, all settings in turns of random order.

    Each process times all files of a setting, the float one a second time as `AGAIN`.
    """
    rng = random.Random(seed)
    found: dict[tuple[str, str], list[dict[str, Any]]] = {setting: [] for setting in settings}
    for number in range(processes):
        for setting in rng.sample(list(settings), len(settings)):
            images, paths = settings[setting]
            on_step(f"{', '.join(setting)}, process {number + 1}")
            named = {name: str(path) for name, path in {**paths, AGAIN: paths[BASE]}.items()}
            job = {"request": asdict(images.request), "paths": named, "seconds": seconds, "seed": seed + number}
            found[setting].append(child.call(f"{__package__}.trial", job, timeout_s=TIMEOUT_S))
    return found


def ratio(trials: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any] | None:
    """The median over processes of a file's time over the float one's in the same process, with its exact interval."""
    ratios = [trial["medians_ns"][name] / trial["medians_ns"][BASE] for trial in trials if name in trial["medians_ns"]]
    if not ratios:
        return None
    interval = median_interval(ratios)
    return {"median": median(ratios), "interval": interval and asdict(interval), "processes": len(ratios)}
