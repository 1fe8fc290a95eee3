"""The files that are compared, each made in a fresh process and kept in a folder with what it cost."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from evit_edge.converters import child
from evit_edge.converters.conversion import CONVERTERS
from evit_edge.models.errors import EdgeError
from evit_edge.models.spec import ModelRequest, ModelSpec, find

from .convert import planned

TIMEOUT_S: Final = 1800
PACKAGES: Final = {
    "quantize_static": ("onnxruntime", "onnx", "onnxscript", "torch"),
    "onnx2tf": ("onnx2tf", "tensorflow", "ai-edge-litert", "onnxscript", "torch"),
    "coremltools": ("coremltools", "torch"),
}
# What each target's files are compared with.
BASE: Final = "fp32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file of the comparison: a precision of ours, or a plain recipe with what it is given (`told`)."""

    target: str
    name: str
    label: str
    recipe: str = "ours"
    precision: str = ""
    told: Mapping[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """Its name in the folder."""
        return f"{self.target}_{self.name}.{CONVERTERS.load(self.target).suffix}"

    @property
    def batch(self) -> int:
        """How many images it takes at a time."""
        return 32 if self.target == "coreml" and self.recipe == "ours" else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """A model, and what it is calibrated with and asked about: folders or `.npz`, None for its own samples."""

    request: ModelRequest
    calibrate: Path | None
    calibration_images: int
    data: Path | None
    data_sha256: str
    count: int


TUTORIAL: Final = {
    "op_types_to_quantize": ["Conv", "Gemm", "MatMul"],
    "per_channel": True,
    "activation_type": "QUInt8",
    "weight_type": "QInt8",
}
PLAIN: Final = (
    Entry(
        target="onnx",
        name="ort_defaults",
        label="quantize_static, defaults",
        recipe="quantize_static",
        told={"arguments": {}},
    ),
    Entry(
        target="onnx",
        name="ort_tutorial",
        label="quantize_static, U8S8 a channel, Conv/Gemm/MatMul",
        recipe="quantize_static",
        told={"arguments": TUTORIAL},
    ),
    *(
        Entry(
            target="tflite",
            name=f"onnx2tf_{picked}_{samples}",
            label=f"onnx2tf {kind}, {samples} image{'s' * (samples > 1)}",
            recipe="onnx2tf",
            told={"samples": samples, "picked": picked},
        )
        for samples, picked, kind in (
            (1, "integer_quant", "-oiqt"),
            (20, "integer_quant", "-oiqt"),
            (20, "float32", "fp32 given"),
        )
    ),
    Entry(target="coreml", name="coremltools_w8", label="linear_quantize_weights, defaults", recipe="coremltools"),
)


def entries(targets: Sequence[str], precisions: Sequence[str], *, plain: bool) -> list[Entry]:
    """Ours, the float ones first, and the plain recipes behind each target's."""
    found = []
    for target in targets:
        floats = [BASE, *(["fp16"] if target == "coreml" else [])]
        for precision in (*floats, *precisions):
            found.append(Entry(target=target, name=precision, label=f"ours {precision}", precision=precision))
        found += [entry for entry in PLAIN if plain and entry.target == target]
    return found


def make(
    entry: Entry,
    images: Images,
    folder: Path,
    *,
    again: bool = False,
    on_step: Callable[[str], None] = lambda step: None,
) -> dict[str, Any]:
    """The file in `folder`, made now or by an earlier run of the same code: its `seconds`, or why it is `missing`."""
    out, record = folder / entry.file, folder / f"{entry.file}.json"
    job = {
        "request": asdict(images.request),
        "target": entry.target,
        "recipe": entry.recipe,
        "precision": entry.precision,
        "calibrate": images.calibrate and str(images.calibrate.absolute()),
        "images": images.calibration_images,
        **entry.told,
    }
    try:
        asked = _asked(find(images.request), job)
        if not again and out.exists() and record.exists():
            known: dict[str, Any] = json.loads(record.read_text())
            if known["asked"] == asked:
                return {"seconds": known["seconds"], "earlier": True}
        folder.mkdir(parents=True, exist_ok=True)
        for earlier in (record, *folder.glob(f"{entry.file}.*.npy")):
            earlier.unlink(missing_ok=True)
        on_step(f"{images.request.name}, {entry.target}: {entry.label}")
        made: dict[str, Any] = child.call(f"{__package__}.convert", {**job, "out": str(out)}, timeout_s=TIMEOUT_S)
    except EdgeError as error:
        return {"missing": error.message}
    record.write_text(json.dumps({"asked": asked, **made}, indent=1))
    return made


def _asked(spec: ModelSpec, job: dict[str, Any]) -> dict[str, Any]:
    """What decides the file's content."""
    if job["recipe"] == "ours":
        # Over the model, the images, the versions and our code.
        return {"key": planned(spec, job).key}
    versions = {name: importlib.metadata.version(name) for name in PACKAGES[job["recipe"]]}
    return {"job": job, "model": spec.digest, "versions": versions}
