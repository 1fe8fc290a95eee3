"""An artifact: a folder with the converted file, what is known of it, and what the original model answered."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from ..models.download import sha256_of
from ..models.errors import BadArtifact
from ..models.spec import ModelRequest, ModelSpec, Preprocess, find

MANIFEST: Final = "artifact.json"
GOLDEN: Final = "golden.npz"

Precision = Literal["fp32", "fp16", "w8", "int8", "w8a16", "pal8", "pal6", "pal4", "mixed"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class Quantization(_Record):
    """What an integer q of a tensor stands for: scale · (q - zero_point)."""

    scale: float
    zero_point: int


class Normalisation(_Record):
    """What a pixel p from 0 to 255 of an image stands for, per channel: (p / 255 - mean) / std."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class TensorRecord(_Record):
    """A named input or output as the file has it; null in `shape` is a dynamic batch.

    With the layout `nhwc` a 4-D tensor has its channels last where the model has them second; with a
    quantization it holds integers where the model has float32; with a normalisation it holds RGB pixels, which the
    file normalises itself; `softmax` says that it holds probabilities where the model has logits. `tensors.py` goes
    from one to the other.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    layout: Literal["nchw", "nhwc"] = "nchw"
    quantization: Quantization | None = None
    normalisation: Normalisation | None = None
    softmax: bool = False


class PreprocessRecord(_Record):
    """`models.spec.Preprocess`, on disk."""

    size: int
    resize: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Literal["bilinear", "bicubic"]

    def value(self) -> Preprocess:
        """What prepares images as this record says."""
        return Preprocess(**self.model_dump())


class ModelRecord(_Record):
    """The model that the artifact was made from; the first four fields find it again."""

    name: str
    weights: str
    img_size: int
    num_classes: int
    weights_sha256: str
    digest: str
    labels: tuple[str, ...] | None
    preprocess: PreprocessRecord
    licence: str

    @classmethod
    def of(cls, spec: ModelSpec) -> ModelRecord:
        """The record of a model that can be built."""
        request = spec.request
        return cls(
            name=spec.name,
            weights=str(request.weights),
            img_size=int(request.img_size or 0),
            num_classes=int(request.num_classes or 0),
            weights_sha256=spec.weights_sha256,
            digest=spec.digest,
            labels=spec.labels,
            preprocess=PreprocessRecord(**asdict(spec.preprocess)),
            licence=spec.licence,
        )


class ParityRow(_Record):
    """How far the artifact is from the original on one group of inputs, and whether it counts; see `parity.compare`.

    `limit` is the relative L2 that was allowed, null in records from before it was kept.
    """

    inputs: str
    count: int
    max_abs: float
    relative_l2: float
    cosine: float
    sqnr_db: float | None
    top1: float
    top5: float
    worst_index: int
    judged: bool = True
    limit: float | None = None
    passed: bool


class ParityRecord(_Record):
    """The gate's verdict, with the engine that ran the artifact."""

    engine: str
    passed: bool
    rows: tuple[ParityRow, ...]


class Manifest(_Record):
    """`artifact.json`: published as `docs/artifact.schema.json`; `notes` are what the converter had to say."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    key: str
    model: ModelRecord
    target: str
    precision: Precision
    precision_found: str
    options: dict[str, JsonValue]
    inputs: tuple[TensorRecord, ...]
    outputs: tuple[TensorRecord, ...]
    payload: str
    files: dict[str, str]
    versions: dict[str, str]
    created: str
    notes: tuple[str, ...] = ()
    parity: ParityRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A folder that was read and whose files are those that were written."""

    folder: Path
    manifest: Manifest

    @property
    def payload(self) -> Path:
        """The converted file, or folder (an `.mlpackage`)."""
        return self.folder / self.manifest.payload

    @property
    def size_bytes(self) -> int:
        """Bytes of the payload."""
        files = [self.payload] if self.payload.is_file() else self.payload.rglob("*")
        return sum(file.stat().st_size for file in files if file.is_file())

    @property
    def digest(self) -> str:
        """sha256 over the payload's files, hexadecimal: the same for two artifacts with the same payload."""
        parts = [
            f"{name} {sha}\n"
            for name, sha in sorted(self.manifest.files.items())
            if name.split("/")[0] == self.manifest.payload
        ]
        return hashlib.sha256("".join(parts).encode()).hexdigest()


def digests_of(folder: Path) -> dict[str, str]:
    """sha256 of every file of an artifact but the manifest, by path relative to `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Put `artifact.json` into `folder`."""
    (folder / MANIFEST).write_text(manifest.model_dump_json(by_alias=True, indent=2) + "\n")


def original(artifact: Artifact) -> ModelSpec:
    """The model that it was made from; raises `ModelUnavailable`, and `BadArtifact` if that is another one now."""
    record = artifact.manifest.model
    fields = ("name", "weights", "img_size", "num_classes")
    spec = find(ModelRequest(**{name: getattr(record, name) for name in fields}))
    if (spec.digest, spec.weights_sha256) != (record.digest, record.weights_sha256):
        raise BadArtifact(
            f"{artifact.folder} was made from another {record.name} than {record.weights} gives now",
            "convert again",
        )
    return spec


def read(folder: Path) -> Artifact:
    """The artifact in `folder`; raises `BadArtifact` if it is incomplete, or differs from what was written."""
    artifact = read_changed(folder)
    found = digests_of(folder)
    for name, sha in artifact.manifest.files.items():
        if found.get(name) != sha:
            state = "was changed" if name in found else "is missing"
            raise BadArtifact(f"{folder / name} {state} since the artifact was written", "convert again")
    return artifact


def read_changed(folder: Path) -> Artifact:
    """The same whatever became of its files: to find out what is wrong with them."""
    try:
        text = (folder / MANIFEST).read_text()
        manifest = Manifest.model_validate_json(text)
    except (OSError, UnicodeDecodeError) as error:
        raise BadArtifact(
            f"no artifact at {folder}: {MANIFEST} cannot be read",
            "make one with: evit-edge convert MODEL --target onnx",
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or MANIFEST
        raise BadArtifact(f"{folder / MANIFEST} is not a manifest: {where}: {first['msg']}", "convert again") from error
    return Artifact(folder=folder, manifest=manifest)
