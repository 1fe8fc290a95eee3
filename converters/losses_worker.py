"""The report on a quantized artifact, in a child process: engines abort on files that somebody changed."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..models.errors import BadArtifact, Unsupported
from . import adjustment, child, golden, proof, tensors
from .artifact import Artifact, digests_of, original, read_changed
from .calibration import Calibration, choose
from .conversion import CONVERTERS, Conversion, Converter
from .loss_meter import measure
from .losses import Losses

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

START_S: Final = 900.0
IMAGE_S: Final = 60.0


def report(folder: Path, *, data: Path | None, images: int) -> Losses:
    """What quantization cost the artifact in `folder`, as it is now, on `images` of `data` or of its golden inputs.

    Raises `BadArtifact` for a file that cannot be read or run, `ModelUnavailable` without the model's weights,
    `Unsupported` where nothing is quantized or there is no float form, and `FileProblem` for `data`.
    """
    artifact = read_changed(folder)
    # Here already, where an unknown target has a line of its own.
    CONVERTERS.load(artifact.manifest.target)
    chosen = data and asdict(choose(data, images))
    job = {"artifact": str(folder.resolve()), "data": chosen, "images": images}
    try:
        answer = child.call(f"{__package__}.losses_worker", job, timeout_s=START_S + IMAGE_S * images)
    except child.ChildCrashed as error:
        raise BadArtifact(f"{artifact.payload}: what runs it {error.message}", "convert again") from error
    return Losses.model_validate(answer)


def work(job: dict[str, Any]) -> dict[str, Any]:
    """The child's side."""
    import torch

    torch.set_num_threads(1)
    artifact = read_changed(Path(job["artifact"]))
    if adjustment.is_equalised(artifact.manifest.notes):
        raise Unsupported(
            f"{artifact.folder}: its layers were equalised, so their values are not those of the model",
            "evit-edge parity and eval judge it as a whole",
        )
    spec = original(artifact)
    model = spec.build().eval()
    conversion = again(artifact)
    converter: Converter = CONVERTERS.load(conversion.target)
    probe = converter.probe(model, conversion, artifact.payload)
    # The float form's writers leave much behind.
    gc.collect()

    def answers(feed: NDArray[np.float32]) -> list[NDArray[Any]]:
        given = proof.answers(model, feed)
        # Of a classifier the logits are known up to a constant.
        return [
            tensors.to_model(record, tensors.softmax(part)) if record.softmax else part
            for record, part in zip(artifact.manifest.outputs, given, strict=True)
        ]

    data = job["data"] and Calibration(**job["data"])
    feeds = data.feeds(spec) if data else _golden(artifact, job["images"])
    found = measure(probe, feeds, answers)
    return found.model_copy(update={"notes": (*_changed(artifact), *found.notes)}).model_dump(mode="json")


def again(artifact: Artifact) -> Conversion:
    """The conversion that made it, but for its calibration."""
    manifest = artifact.manifest
    converter: Converter = CONVERTERS.load(manifest.target)
    known: dict[str, Any] = {**converter.options, **manifest.options}
    return Conversion(
        spec=original(artifact),
        target=manifest.target,
        precision=manifest.precision,
        batch=known["batch"],
        images=known["images"],
        seed=known["seed"],
        options={name: known[name] for name in converter.options},
    )


def _golden(artifact: Artifact, count: int) -> Iterator[NDArray[np.float32]]:
    (images,) = golden.feeds(artifact)[golden.IMAGES].values()
    return (images[place : place + 1] for place in range(min(count, len(images))))


def _changed(artifact: Artifact) -> list[str]:
    found = digests_of(artifact.folder)
    names = [name for name, sha in artifact.manifest.files.items() if found.get(name) != sha]
    return [
        f"{artifact.folder / name} was changed since the artifact was written: this is what it is now" for name in names
    ]


if __name__ == "__main__":
    child.serve(work)
