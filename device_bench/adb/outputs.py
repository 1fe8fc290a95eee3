"""Outputs by `benchmark_model`: a process for each batch of inputs, which it reads from files as the model takes them.

How the tool reads and writes is told by its source, `benchmark_tflite_model.cc`: the bytes of an input from the file
that `--input_layer_value_files` names, and those of all outputs, one after another, into `--output_filepath`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ...converters.artifact import TensorRecord
from ...converters.tflite.inspection import inspect
from ...models.errors import DeviceFailed, Unsupported
from ..remote.orders import Order

if TYPE_CHECKING:
    from numpy.typing import NDArray

ONCE: Final = ("--num_runs=1", "--min_secs=0", "--warmup_runs=1", "--warmup_min_secs=0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What goes to the tool and comes back, for `given`: places in the manifest of the file's tensors, in its order."""

    given: Order
    inputs: Sequence[int]
    outputs: Sequence[int]

    def batches(self, scratch: Path) -> Iterator[list[Path]]:
        """For each process the files of its inputs."""
        import numpy as np

        with np.load(self.given.inputs, allow_pickle=False) as file:
            arrays = [file[file.files[place]] for place in self.inputs]
        for start in range(0, len(arrays[0]), self.given.chunk):
            files = [scratch / f"{start}-{place}.bin" for place in range(len(arrays))]
            for path, array in zip(files, arrays, strict=True):
                path.write_bytes(array[start : start + self.given.chunk].tobytes())
            yield files

    def arguments(self, places: Sequence[str], *, answer: str) -> list[str]:
        """What the tool is told to read its inputs at `places` and to write its outputs to `answer`, both there."""
        records = [self.given.artifact.manifest.inputs[place] for place in self.inputs]
        if comma := next((record.name for record in records if "," in record.name), None):
            raise Unsupported(f"benchmark_model takes no input that is called {comma!r}", "its lists end at commas")
        shapes = (",".join(map(str, (self.given.chunk, *record.shape[1:]))) for record in records)
        # A colon separates the name from the file; two are one that is meant.
        files = (f"{record.name.replace(':', '::')}:{place}" for record, place in zip(records, places, strict=True))
        return [
            f"--input_layer={','.join(record.name for record in records)}",
            f"--input_layer_shape={':'.join(shapes)}",
            f"--input_layer_value_files={','.join(files)}",
            f"--output_filepath={answer}",
        ]

    def keep(self, answers: Sequence[bytes], scratch: Path, target: Path) -> None:
        """Write `target`, the model's own outputs, from what all processes wrote; raises `DeviceFailed`."""
        import numpy as np

        raw = scratch / "raw.npz"
        parts = [self._split(answer) for answer in answers]
        np.savez(raw, *(np.concatenate(part) for part in zip(*parts, strict=True)))
        self.given.keep(raw, target)

    def _split(self, answer: bytes) -> list[NDArray[Any]]:
        """The outputs in the manifest's order."""
        import numpy as np

        manifest, start = self.given.artifact.manifest, 0
        found: dict[int, NDArray[Any]] = {}
        for place in self.outputs:
            record = manifest.outputs[place]
            shape = tuple(size or self.given.chunk for size in record.shape)
            end = start + int(np.prod(shape)) * np.dtype(record.dtype).itemsize
            if end <= len(answer):
                found[place] = np.frombuffer(answer[start:end], record.dtype).reshape(shape)
            start = end
        if start != len(answer):
            raise DeviceFailed(f"benchmark_model wrote {len(answer)} bytes, which are not this model's outputs")
        return [found[place] for place in range(len(manifest.outputs))]


def exchange(given: Order) -> Exchange:
    """For a TFLite artifact; raises `Unsupported` for a file that does not say which of its tensors are which."""
    manifest, found = given.artifact.manifest, inspect(given.artifact.payload)
    # A file of any batch is run sample by sample, as the tool does that is told no shape.
    chunk = given.chunk if manifest.inputs[0].shape[0] else 1
    return Exchange(
        given=replace(given, chunk=chunk),
        inputs=_places(found.inputs, manifest.inputs),
        outputs=_places(found.outputs, manifest.outputs),
    )


def _places(in_file: Sequence[TensorRecord], in_manifest: Sequence[TensorRecord]) -> list[int]:
    known = {record.name: place for place, record in enumerate(in_manifest)}
    if len(in_manifest) == 1 == len(in_file):
        return [0]
    if {record.name for record in in_file} != set(known):
        raise Unsupported("the file does not name its tensors as the artifact does", "convert it again")
    return [known[record.name] for record in in_file]
