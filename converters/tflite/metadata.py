"""What a .tflite file says of itself: the standard TFLite Metadata, and all that `predict` needs.

The metadata is a FlatBuffer in the model (entry `TFLITE_METADATA`), which Android's tools read. The files that it
names are behind the model, as a ZIP: `labels.txt`, a label a line, and `evit-edge.json`, the card without them. So one
file is a model for an interpreter and an archive for `unzip`.
"""

from __future__ import annotations

import importlib.metadata
import io
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ...models.errors import BadArtifact, ConversionFailed, FileProblem, Unsupported
from .. import card
from ..artifact import Precision, TensorRecord
from ..card import Card
from . import metadata_schema
from .flatbuffer import pack, unpack
from .metadata_schema import Table, UInt, table

if TYPE_CHECKING:
    from ...models.spec import ModelSpec, Preprocess

ENTRY: Final = "TFLITE_METADATA"
LABELS: Final = "labels.txt"
CARD: Final = "evit-edge.json"
UNIX: Final = 3  # in a ZIP: the system whose permissions follow

# All that zipfile raises on an archive that is cut short or changed.
_DAMAGED: Final = (
    zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError,
)  # fmt: skip


def attach(
    path: Path,
    *,
    spec: ModelSpec,
    precision: Precision,
    inputs: Sequence[TensorRecord],
    outputs: Sequence[TensorRecord],
    extra: Mapping[str, str],
) -> None:
    """Put metadata, labels and card into the .tflite file at `path`, in the place of earlier ones.

    The same arguments give the same bytes. Raises `Unsupported` for labels that `labels.txt` cannot hold,
    `BadArtifact` if `path` is no TFLite file and `FileProblem` if it cannot be written.
    """
    files = {CARD: card.make(spec, precision, inputs, outputs, extra).with_labels(None).text.encode()}
    if spec.labels:
        files[LABELS] = _labels_file(spec.labels)
    model = unpack(_bytes(path))
    graph = model.subgraphs[0]
    described = _described(
        spec,
        inputs=_in_file_order(inputs, graph.inputs, model, "inputs"),
        outputs=_in_file_order(outputs, graph.outputs, model, "outputs"),
    )
    _enter(model, metadata_schema.pack(described))
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(_with_files(pack(model), files))
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise FileProblem(f"{path} cannot be written: {error.strerror or error}") from error


def read(path: Path) -> Card:
    """The card with its labels; raises `BadArtifact` for a file that has none, is damaged, or is no TFLite file."""
    data = _bytes(path)
    try:
        has_metadata = any(entry.name == ENTRY.encode() for entry in unpack(data).metadata or ())
    except BadArtifact as error:
        raise BadArtifact(f"{path}: {error.message}", error.hint) from error
    if not has_metadata:
        raise BadArtifact(f"{path} has no metadata: what it takes and gives is unknown", "give a file that we wrote")
    files = _files(data, path)
    if CARD not in files:
        raise BadArtifact(f"{path} has metadata, but no {CARD}: it was not written here", "give a file that we wrote")
    found = card.parse(files[CARD], f"{path}: {CARD}")
    try:
        labels = tuple(files[LABELS].decode().split("\n")[:-1]) if LABELS in files else None
    except UnicodeDecodeError as error:
        raise BadArtifact(f"{path}: {LABELS} is not UTF-8", "convert again") from error
    if labels is not None and len(labels) != found.model.num_classes:
        raise BadArtifact(f"{path}: {LABELS} has {len(labels)} labels for {found.model.num_classes} classes")
    return found.with_labels(labels)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadArtifact(f"{path} cannot be read: {error.strerror or error}") from error


def _labels_file(labels: Sequence[str]) -> bytes:
    for index, label in enumerate(labels):
        # A carriage return too ends a line for Android's reader.
        if "\n" in label or "\r" in label:
            raise Unsupported(f"label {index} is {label!r}, and {LABELS} has a label a line", "take out the line break")
    # A last empty line is what readers leave out, so an empty last label needs its own line end.
    return "".join(f"{label}\n" for label in labels).encode()


def _in_file_order(records: Sequence[TensorRecord], order: Sequence[int], model: Any, kind: str) -> list[TensorRecord]:
    """Readers match metadata and tensors by position; records come in the model's order, which may be another."""
    if len(records) != len(order):
        raise ConversionFailed(f"the TFLite file has {len(order)} {kind}, and {len(records)} are described")
    tensors = model.subgraphs[0].tensors
    names = {index: tensors[index].name for index in order}
    for signature in (model.signatureDefs or ())[:1]:
        names |= {entry.tensorIndex: entry.name for entry in getattr(signature, kind) or ()}
    by_name = {record.name.encode(): record for record in records}
    found = [by_name[names[index]] for index in order if names[index] in by_name]
    return found if len(found) == len(records) else list(records)


def _described(spec: ModelSpec, *, inputs: Sequence[TensorRecord], outputs: Sequence[TensorRecord]) -> Table:
    ours = importlib.metadata.version("evit-edge")
    graph = table(
        "SubGraphMetadata",
        input_tensor_metadata=[_input(record, spec.preprocess) for record in inputs],
        output_tensor_metadata=[_output(record, spec) for record in outputs],
    )
    return table(
        "ModelMetadata",
        name=spec.name,
        description=f"{spec.name} with the weights {spec.weights_name}, for {spec.request.num_classes} classes; "
        f"written by evit-edge {ours}.",
        version=spec.weights_sha256[:12],
        subgraph_metadata=[graph],
        license=spec.licence,
        associated_files=[table("AssociatedFile", name=CARD, description="How evit-edge made this file and runs it.")],
        min_parser_version=metadata_schema.MIN_PARSER_VERSION,
    )


def _input(record: TensorRecord, preprocess: Preprocess) -> Table:
    if len(record.shape) != 4:
        return table("TensorMetadata", name=record.name)
    pairs = list(zip(preprocess.mean, preprocess.std, strict=True))
    size = table("ImageSize", width=UInt(preprocess.size), height=UInt(preprocess.size))
    # The standard's mean and std are for pixels from 0 to 255; ours are for 0 to 1.
    normalization = table(
        "NormalizationOptions",
        mean=[mean * 255 for mean in preprocess.mean],
        std=[std * 255 for std in preprocess.std],
    )
    return table(
        "TensorMetadata",
        name=record.name,
        description=f"RGB image, its shorter side resized to {preprocess.resize} ({preprocess.interpolation}), "
        f"the {preprocess.size} × {preprocess.size} in its centre, normalised.",
        content=table(
            "Content",
            content_properties_type=metadata_schema.IMAGE_PROPERTIES,
            content_properties=table("ImageProperties", color_space=metadata_schema.RGB, default_size=size),
        ),
        process_units=[table("ProcessUnit", options_type=metadata_schema.NORMALIZATION_OPTIONS, options=normalization)],
        stats=table(
            "Stats", max=[(1 - mean) / std for mean, std in pairs], min=[(0 - mean) / std for mean, std in pairs]
        ),
    )


def _output(record: TensorRecord, spec: ModelSpec) -> Table:
    labels = table(
        "AssociatedFile",
        name=LABELS,
        description="A label a line, in the order of the scores.",
        type=metadata_schema.TENSOR_AXIS_LABELS,
    )
    has_labels = spec.labels and record.shape[-1:] == (len(spec.labels),)
    return table(
        "TensorMetadata",
        name=record.name,
        description="One score a class.",
        associated_files=[labels] if has_labels else None,
    )


def _enter(model: Any, metadata: bytes) -> None:
    from ai_edge_litert import schema_py_generated as schema

    buffer = schema.BufferT()
    buffer.data = metadata
    for entry in model.metadata or ():
        if entry.name == ENTRY.encode():
            model.buffers[entry.buffer] = buffer
            return
    entry = schema.MetadataT()
    entry.name, entry.buffer = ENTRY, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or ()), entry]


def _with_files(model: bytes, files: Mapping[str, bytes]) -> bytes:
    whole = io.BytesIO(model)
    whole.seek(0, io.SEEK_END)
    with zipfile.ZipFile(whole, "w") as archive:
        for name, content in files.items():
            # MediaPipe's reader takes nothing compressed, and without a date the same bytes come out each time.
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.external_attr = UNIX, 0o644 << 16
            archive.writestr(entry, content)
    return whole.getvalue()


def _files(data: bytes, path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: archive.read(name) for name in (CARD, LABELS) if name in archive.namelist()}
    except _DAMAGED as error:
        raise BadArtifact(
            f"{path}: the files behind the model are damaged, or were cut off", "convert again"
        ) from error
