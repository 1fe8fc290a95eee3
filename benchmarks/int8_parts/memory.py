"""What calibrating costs in memory: one conversion by the Python API a process, and the peak of its children."""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Final
from zipfile import ZipFile

from evit_edge.converters import child
from evit_edge.models.errors import EdgeError, ParityFailed

SIZE: Final = 224
COUNTS: Final = (20, 2000)
TIMEOUT_S: Final = 5400


def save_noise(path: Path, count: int, *, size: int = SIZE) -> None:
    """An `.npz` with `images`, uint8 (count, size, size, 3), written one by one."""
    import numpy as np

    npy: Any = np.lib.format
    rng = np.random.default_rng(0)
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
    with ZipFile(path, "w") as archive, archive.open("images.npy", "w", force_zip64=True) as file:
        npy.write_array_header_1_0(file, header)
        for _ in range(count):
            file.write(rng.integers(0, 256, (size, size, 3), np.uint8).tobytes())


def measure(
    targets: Sequence[str], methods: Sequence[str], *, counts: Sequence[int] = COUNTS, on_step: Callable[[str], None]
) -> list[dict[str, Any]]:
    """For each target, method and number of images: the peak in bytes and the seconds, or the reason for none."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="evit-edge-") as folder:
        images = Path(folder, "noise.npz")
        save_noise(images, max(counts))
        for target, method, count in product(targets, methods, counts):
            on_step(f"{target} int8, {method}, {count} images")
            row: dict[str, Any] = {"target": target, "method": method, "count": count}
            try:
                row |= child.call(f"{__package__}.memory", {**row, "images": str(images)}, timeout_s=TIMEOUT_S)
                on_step(f"{row['peak_bytes'] / 2**20:.0f} MiB")
            except EdgeError as error:
                row["missing"] = error.message
            rows.append(row)
    return rows


def work(job: dict[str, Any]) -> dict[str, Any]:
    """Convert M0 with random weights; that its file is no good after looking at noise does not matter here."""
    from evit_edge import ModelRequest, convert, execute, find_model, plan_conversion
    from evit_edge.device_bench.session import default_runtime

    spec = find_model(ModelRequest(name="efficientvit_m0", weights="random", img_size=SIZE))
    start, verdict = time.perf_counter(), "passed"
    with tempfile.TemporaryDirectory(prefix="evit-edge-") as folder:
        # A conversion that was copied from the user's cache would cost no memory.
        os.environ["EVIT_EDGE_CACHE"] = folder
        conversion = plan_conversion(
            spec,
            job["target"],
            precision="int8",
            calibrate=Path(job["images"]),
            calibration_images=job["count"],
            calibration_method=job["method"],
        )
        try:
            convert(
                conversion,
                Path(folder, "out"),
                execute=execute,
                engine=default_runtime(job["target"]),
                timeout_s=TIMEOUT_S,
            )
        except ParityFailed:
            verdict = "refused"
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    return {"peak_bytes": peak, "seconds": time.perf_counter() - start, "gate": verdict}


if __name__ == "__main__":
    child.serve(work)
