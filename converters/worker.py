"""What runs in the child process: build the model, ask it, convert it, look into the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..models.errors import ConversionFailed, EdgeError, FileProblem, ModelUnavailable
from ..models.spec import ModelRequest, find
from . import child, golden
from .calibration import Calibration
from .calibration_remarks import remarks
from .conversion import CONVERTERS, Conversion, Converter
from .inspection import left_in_float


def work(job: dict[str, Any]) -> dict[str, Any]:
    """Write payload and `golden.npz` into `job["out"]`; returns its name and what was found in it."""
    import torch

    # On a busy machine several threads wait for each other (measured: 50 times slower); one is the same everywhere.
    torch.set_num_threads(1)
    spec = find(ModelRequest(**job["request"]))
    if spec.digest != job["digest"]:
        raise ModelUnavailable(f"the weights of {spec.name} changed while they were being converted")
    converter: Converter = CONVERTERS.load(job["target"])
    fields = ("target", "precision", "batch", "images", "seed", "options", "asked")
    calibration = job["calibration"] and Calibration(**job["calibration"])
    conversion = Conversion(spec=spec, calibration=calibration, **{name: job[name] for name in fields})
    out = Path(job["out"])
    payload = out / f"model.{converter.suffix}"
    model = spec.build()
    try:
        golden.save(out, golden.make(spec, model, images=conversion.images, seed=conversion.seed))
        said = remarks(conversion.calibration, spec) if conversion.calibration else []
        notes = [*converter.convert(model, conversion, payload), *said]
    except EdgeError:
        raise
    except OSError as error:
        raise FileProblem(f"{out.parent} cannot be written: {error.strerror or error}") from error
    except Exception as error:
        raise ConversionFailed(
            f"{spec.name} to {conversion.target}: {type(error).__name__}: {_first_line(error)}"
        ) from error
    inputs, outputs = converter.tensors_of(conversion, payload)
    found = converter.inspect(payload)
    if conversion.precision in ("int8", "mixed"):
        notes += left_in_float(found)
    return {
        "payload": payload.name,
        "precision_found": found.precision,
        "inputs": [record.model_dump() for record in inputs],
        "outputs": [record.model_dump() for record in outputs],
        "notes": notes,
    }


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")


if __name__ == "__main__":
    child.serve(work)
