"""What a file, or the original, answers to all images, in a fresh process."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evit_edge.converters import child, labelled
from evit_edge.models.spec import ModelRequest, ModelSpec, find

from .engines import EagerEngine, opened

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def feeds(spec: ModelSpec, source: str | None, count: int) -> Iterator[NDArray[np.float32]]:
    """The first `count` images of a folder or `.npz`, or of the model's own samples: float32 (1, 3, size, size)."""
    if source is None:
        pixels: Any = spec.sample_pixels(count)
    else:
        pixels = labelled.pixels(Path(source), spec.preprocess, start=0, stop=count)
    for image in pixels:
        yield spec.preprocess.normalise(image[None])


def work(job: dict[str, Any]) -> dict[str, Any]:
    """Save the logits, float32 (n, classes), as `job["out"]`, `job["batch"]` images at a time."""
    import numpy as np
    import torch

    torch.set_num_threads(1)
    spec = find(ModelRequest(**job["request"]))
    engine = opened(Path(job["path"])) if job["path"] else EagerEngine(spec.build())
    images, found = feeds(spec, job["data"], job["count"]), []
    while parts := list(islice(images, job["batch"])):
        engine.feed(np.concatenate(parts))
        engine.invoke()
        found.append(engine.answer().copy())
    part = Path(job["out"]).with_suffix(".part")
    with part.open("wb") as file:
        np.save(file, np.concatenate(found))
    part.replace(job["out"])
    return {}


if __name__ == "__main__":
    child.serve(work)
