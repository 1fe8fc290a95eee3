"""A job as a board gets it: the file alone, inputs as the file takes them, and what the manifest says of tensors."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...converters import tensors
from ...converters.artifact import Artifact
from ...models.errors import DeviceFailed
from .. import feeding
from ..job import Measuring, MemoryJob, OutputsJob
from ..session import RUNTIMES, Runtime

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is pushed for one job; `source` says whether `inputs` (.npz by position) are images or noise.

    `chunk` samples at a time are run where outputs are asked for, of which the first `count` are wanted.
    """

    job: Measuring | OutputsJob
    artifact: Artifact
    inputs: Path
    source: str
    chunk: int
    count: int

    def text(self, *, artifact: str, inputs: str, outputs: str) -> str:
        """The job as JSON, with the places that its files have there."""
        manifest = self.artifact.manifest
        return json.dumps(
            {
                **self.job.model_dump(),
                "artifact": artifact,
                "inputs": {"file": inputs, "source": self.source},
                "outputs": outputs,
                "chunk": self.chunk,
                "tensors": {
                    side: [{"name": each.name, "shape": each.shape, "dtype": each.dtype} for each in records]
                    for side, records in (("inputs", manifest.inputs), ("outputs", manifest.outputs))
                },
            }
        )

    def keep(self, raw: Path, outputs: Path) -> None:
        """Write `outputs`, the model's own, from those that the file gave there; raises `DeviceFailed`."""
        import numpy as np

        records = self.artifact.manifest.outputs
        try:
            with np.load(raw, allow_pickle=False) as file:
                answers = [file[name][: self.count] for name in file.files]
            found = [tensors.to_model(record, part) for record, part in zip(records, answers, strict=True)]
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise DeviceFailed(f"what came back are no outputs: {error}") from error
        np.savez(outputs, *found)


def order(job: Measuring | OutputsJob, scratch: Path) -> Order:
    """Prepare `job` in the folder `scratch`; raises `Unsupported` for an artifact that its runtime does not open."""
    runtime: Runtime = RUNTIMES.load(job.runtime)
    artifact = feeding.opened(runtime, job)
    inputs = scratch / "inputs.npz"
    source, values, chunk, count = "", dict[str, Any](), 1, 0
    if isinstance(job, OutputsJob):
        values, chunk, count = _whole_chunks(job, artifact)
    elif isinstance(job, MemoryJob):
        source, values = "noise", dict(feeding.noise(artifact, batch=job.batch, seed=job.seed))
    else:
        source, drawn = feeding.real_or_noise(artifact, batch=job.batch, seed=job.seed)
        values = dict(drawn)
    inputs.write_bytes(_npz(feeding.fed(runtime, artifact, values).values()))
    return Order(job=job, artifact=artifact, inputs=inputs, source=source, chunk=chunk, count=count)


def _whole_chunks(job: OutputsJob, artifact: Artifact) -> tuple[dict[str, NDArray[Any]], int, int]:
    """The inputs of `job`, how many at a time, and their number; the last one is repeated to fill the last chunk."""
    import numpy as np

    with np.load(job.inputs, allow_pickle=False) as file:
        arrays = [file[name] for name in file.files]
    count = len(arrays[0])
    chunk = artifact.manifest.inputs[0].shape[0] or feeding.FREE_BATCH
    filled = [np.concatenate([array, *[array[-1:]] * (-count % chunk)]) for array in arrays]
    names = [record.name for record in artifact.manifest.inputs]
    return dict(zip(names, filled, strict=True)), chunk, count


def _npz(arrays: Iterable[NDArray[Any]]) -> bytes:
    """The same arrays are the same bytes, so that they are not pushed twice; NumPy would write the time into them."""
    import numpy as np

    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for place, array in enumerate(arrays):
            part = io.BytesIO()
            np.save(part, array, allow_pickle=False)
            file.writestr(zipfile.ZipInfo(f"arr_{place}.npy"), part.getvalue())
    return content.getvalue()
