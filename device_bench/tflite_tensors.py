"""Which tensors of a TFLite file are those that the manifest names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..converters.tflite.flatbuffer import SIGNATURE
from ..models.errors import BadArtifact

if TYPE_CHECKING:
    from ..converters.artifact import Artifact, TensorRecord

Kind = Literal["input", "output"]
Details = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A tensor of the manifest: its index in the file's main graph, its shape there now, and if its batch may vary."""

    name: str
    index: int
    shape: tuple[int, ...]
    free_batch: bool

    def require(self, shape: tuple[int, ...]) -> None:
        """Raise `BadArtifact` unless an array of `shape` fits."""
        fixed = slice(1 if self.free_batch else 0, None)
        if len(shape) != len(self.shape) or shape[fixed] != self.shape[fixed]:
            batch = "any batch of " if self.free_batch else ""
            raise BadArtifact(f"input {self.name!r} takes {batch}{self.shape[fixed]}, and was given {shape}")


def places(engine: Any, artifact: Artifact) -> tuple[list[Place], list[Place]]:
    """Inputs and outputs in the manifest's order, of an allocated `Interpreter`.

    Names are those of the signature `serving_default`, or else of the tensors; if the file knows none of them,
    the order counts. Raises `BadArtifact` if there is no such tensor, or not of the manifest's dtype and shape.
    """
    inputs, outputs = engine.get_input_details(), engine.get_output_details()
    named_inputs, named_outputs = _signature(engine)
    manifest = artifact.manifest
    if len(inputs) != len(manifest.inputs):
        raise BadArtifact(f"{artifact.payload} takes {len(inputs)} inputs, and not {len(manifest.inputs)}")
    return (
        _placed("input", manifest.inputs, inputs, named_inputs, artifact),
        _placed("output", manifest.outputs, outputs, named_outputs, artifact),
    )


def _signature(engine: Any) -> tuple[Mapping[str, Details], Mapping[str, Details]]:
    if SIGNATURE not in engine.get_signature_list():
        return {}, {}
    runner = engine.get_signature_runner(SIGNATURE)
    return runner.get_input_details(), runner.get_output_details()


def _placed(
    kind: Kind,
    records: Sequence[TensorRecord],
    tensors: Sequence[Details],
    signature: Mapping[str, Details],
    artifact: Artifact,
) -> list[Place]:
    found = _found(records, tensors, signature)
    if found is None:
        known, wanted = sorted(signature) or [tensor["name"] for tensor in tensors], [record.name for record in records]
        raise BadArtifact(
            f"{artifact.payload} has the {kind}s {', '.join(known)}, and not {', '.join(wanted)}", "convert again"
        )
    return [_place(kind, record, details, artifact) for record, details in zip(records, found, strict=True)]


def _found(
    records: Sequence[TensorRecord], tensors: Sequence[Details], signature: Mapping[str, Details]
) -> Sequence[Details] | None:
    own = {tensor["name"]: tensor for tensor in tensors}
    # A signature may be of another graph of the file, where the same index is another tensor.
    of_main = {
        name: details
        for name, details in signature.items()
        if any((details["index"], details["name"]) == (tensor["index"], tensor["name"]) for tensor in tensors)
    }
    for known in (of_main, own):
        if all(record.name in known for record in records):
            return [known[record.name] for record in records]
    strangers = not any(record.name in known for record in records for known in (of_main, own))
    return tensors if strangers and len(records) == len(tensors) else None


def _place(kind: Kind, record: TensorRecord, details: Details, artifact: Artifact) -> Place:
    import numpy as np

    shape, dtype = tuple(int(size) for size in details["shape"]), np.dtype(details["dtype"]).name
    # An output whose size depends on values has no dimensions before the first run.
    unknown = kind == "output" and not shape
    fits = len(shape) == len(record.shape) and all(
        wanted in (None, size) for wanted, size in zip(record.shape, shape, strict=True)
    )
    if dtype != record.dtype or not (fits or unknown):
        raise BadArtifact(
            f"{artifact.payload}: {kind} {record.name!r} is {dtype} {shape}, "
            f"and {record.dtype} {record.shape} in the manifest",
            "convert again",
        )
    free_batch = bool(record.shape) and record.shape[0] is None
    return Place(name=record.name, index=int(details["index"]), shape=shape, free_batch=free_batch)
