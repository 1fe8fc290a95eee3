"""What runs in the peers' environment: litert-torch and ai-edge-quantizer, from an exported program to TFLite files.

Each file costs all that leads to it: a quantized one the float conversion too. The imports, half a minute on a busy
machine, are not counted, nor is the reading of the program: both are ready, as a loaded module is.
"""

from __future__ import annotations

import importlib.metadata
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from .child import Answer, Job, cost, serve

# Recipes of ai-edge-quantizer, by the name of the file.
RECIPES: Final = {
    "litert_w8": "weight_only_wi8_afp32",
    "litert_dynamic": "dynamic_wi8_afp32",
    "litert_int8": "static_wi8_ai8",
}
CALIBRATED: Final = "litert_int8"
PACKAGES: Final = ("torch", "litert-torch", "ai-edge-quantizer", "ai-edge-litert", "numpy")


def convert(job: Job) -> Answer:
    """Write `litert_fp32.tflite` and one file for each recipe into the job's folder."""
    import torch

    torch.set_num_threads(1)
    litert_torch = import_module("litert_torch")
    import_module("ai_edge_quantizer.quantizer")
    folder = Path(job["folder"])
    module = torch.export.load(folder / "model.pt2").module()
    image = torch.rand(1, *job["image_shape"])
    written = folder / "litert_fp32.tflite"

    def to_float() -> None:
        last = litert_torch.to_channel_last_io(module, args=[0])
        litert_torch.convert(last, (image,)).export(str(written))

    costs = {"litert_fp32": cost(to_float)}
    errors = {}
    for name, recipe in RECIPES.items():
        try:
            costs[name] = quantize(
                written, folder / f"{name}.tflite", recipe, folder=folder, before=costs["litert_fp32"]
            )
        except Exception as error:
            errors[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
    return {"costs": costs, "errors": errors}


def quantize(source: Path, out: Path, recipe: str, *, folder: Path, before: Answer) -> Answer:
    quantizer, recipes = (import_module(f"ai_edge_quantizer.{name}") for name in ("quantizer", "recipe"))
    work = quantizer.Quantizer(str(source), getattr(recipes, recipe)())
    calibration: Answer = {"wall_s": 0.0, "cpu_s": 0.0}
    ranges: list[Any] = [None]
    if work.need_calibration:

        def calibrate() -> None:
            ranges[0] = work.calibrate(calibration_data(source, folder / "calibration.npy"), num_threads=1)

        calibration = cost(calibrate)

    def write() -> None:
        out.unlink(missing_ok=True)
        work.quantize(ranges[0], serialize_to_path=out, enable_progress_report=False)

    own = cost(write)
    return {
        **own,
        "wall_s": before["wall_s"] + own["wall_s"],
        "cpu_s": before["cpu_s"] + own["cpu_s"] + calibration["cpu_s"],
        "calibration_s": calibration["wall_s"],
    }


def calibration_data(source: Path, images: Path) -> dict[str, list[dict[str, Any]]]:
    """One feed for each image, by the names of the file's signature."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    ((signature, sides),) = Interpreter(model_path=str(source)).get_signature_list().items()
    (name,) = sides["inputs"]
    return {signature: [{name: image[None]} for image in np.load(images)]}


def versions(job: Job) -> Answer:
    return {"versions": {name: importlib.metadata.version(name) for name in PACKAGES}}


if __name__ == "__main__":
    serve({"convert": convert, "versions": versions})
