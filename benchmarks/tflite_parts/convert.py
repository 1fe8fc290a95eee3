"""What runs in our own environment, one conversion a fresh process: our writer, onnx2tf, and what the peers are given.

The clock starts with the loaded module and stops with the file on disk. onnx2tf starts TensorFlow in a process of its
own, within that time, as every user of it does.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from evit_edge.converters import child
from evit_edge.converters.calibration import Calibration
from evit_edge.converters.conversion import CONVERTERS, plan
from evit_edge.models.download import sha256_of
from evit_edge.models.spec import ModelRequest, ModelSpec, find

from .child import Answer, Job, cost, serve

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

OPSET: Final = 18
# onnx2tf downloads this unless it lies in the current folder.
SAMPLES: Final = ("calibration_image_sample_data_20x128x128x3_float32.npy", (20, 128, 128, 3))
WEIGHTS: Final = "weights.safetensors"
calibrating_s: list[float] = []


class TimedCalibration(Calibration):
    """Adds up in `calibrating_s` what the images and the inference on them take."""

    def feeds(self, spec: ModelSpec) -> Iterator[NDArray[np.float32]]:
        """See `Calibration`; the time counts from asking for the first image until none is left."""
        start = time.perf_counter()
        yield from Calibration.feeds(self, spec)
        calibrating_s.append(time.perf_counter() - start)


def loaded(job: Job) -> tuple[ModelSpec, nn.Module]:
    import torch

    torch.set_num_threads(1)
    spec = find(ModelRequest(name=job["model"], weights=str(Path(job["folder"], WEIGHTS))))
    return spec, spec.build()


def weigh(job: Job) -> Answer:
    """Random weights, unless an earlier run left some, with BatchNorm's statistics from photographs and noise.

    With statistics that are random too, the answers to all photographs are the same but for 2 %, and a file that does
    not look at its image would pass for right. With those of photographs alone the model is chaotic on noise, its own
    float32 answers off its float64 ones by 7 %, and the proof by noise in our converter refuses it.
    """
    import torch
    from safetensors.torch import save_file

    torch.set_num_threads(1)
    out = Path(job["folder"], WEIGHTS)
    if job["again"] or not out.exists():
        spec = find(ModelRequest(name=job["model"], weights="random"))
        module = spec.build().train()
        for layer in module.modules():
            if isinstance(layer, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
                layer.reset_running_stats()
                layer.momentum = None
        photographs = torch.from_numpy(spec.preprocess.normalise(spec.calibration_pixels(job["images"])))
        noise = torch.randn(photographs.shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            module(torch.cat([photographs, noise]))
        save_file(module.state_dict(), out)
    return {"sha256": sha256_of(out)}


def prepare(job: Job) -> Answer:
    """Save images to check and calibrate with, channels last, the module's answers, and the module for the peers."""
    import numpy as np
    import torch

    spec, module = loaded(job)
    folder = Path(job["folder"])
    sides = (
        ("images", spec.sample_pixels, job["images"]),
        ("calibration", spec.calibration_pixels, job["calibration"]),
    )
    for name, pixels, count in sides:
        feeds = spec.preprocess.normalise(pixels(count))
        np.save(folder / f"{name}.npy", np.ascontiguousarray(feeds.transpose(0, 2, 3, 1)))
        if name == "images":
            with torch.no_grad():
                answers = torch.cat([module(part) for part in torch.from_numpy(feeds).split(16)])
            np.save(folder / "answers.npy", answers.numpy())
    torch.export.save(torch.export.export(module, (torch.rand(1, *feeds.shape[1:]),)), folder / "model.pt2")
    return {"image_shape": [*feeds.shape[2:], feeds.shape[1]], "classes": len(answers.argmax(1).unique())}


def ours(job: Job) -> Answer:
    """The file of our target `tflite`, by the way `via`."""
    spec, module = loaded(job)
    conversion = plan(
        spec,
        "tflite",
        precision=job["precision"],
        options={"via": job["via"]},
        calibration_images=job["calibration"],
    )
    if known := conversion.calibration:
        timed = TimedCalibration(**{field.name: getattr(known, field.name) for field in fields(known)})
        conversion = replace(conversion, calibration=timed)
    out = Path(job["folder"], f"{job['name']}.tflite")

    def converted() -> Answer:
        calibrating_s.clear()
        spent = cost(lambda: CONVERTERS.load("tflite").convert(module, conversion, out))
        apart = sum(calibrating_s)
        return {**spent, "wall_s": spent["wall_s"] - apart, "calibration_s": apart}

    found = converted()
    if job["via"] == "direct":
        # What is left once PyTorch's exporter is imported; onnx2tf has to start TensorFlow every time.
        found["second_s"] = converted()["wall_s"]
    return {"costs": {job["name"]: found}}


def plain(job: Job) -> Answer:
    """`onnx2tf -i model.onnx` on the eager model's export, as its users do; it writes float32 and float16."""
    import numpy as np

    _, module = loaded(job)
    folder = Path(job["folder"], "onnx2tf")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    np.save(folder / SAMPLES[0], np.random.default_rng(0).random(SAMPLES[1], dtype=np.float32))
    spent = cost(lambda: run_onnx2tf(module, folder, job["image_shape"]))
    for name, ending in (("onnx2tf_fp32", "float32"), ("onnx2tf_fp16", "float16")):
        (folder / "out" / f"model_{ending}.tflite").replace(folder.parent / f"{name}.tflite")
    shutil.rmtree(folder)
    return {"costs": {"onnx2tf_fp32": spent, "onnx2tf_fp16": spent}}


def run_onnx2tf(module: Any, folder: Path, image_shape: list[int]) -> None:
    import torch

    height, width, channels = image_shape
    torch.onnx.export(
        module,
        (torch.rand(1, channels, height, width),),
        folder / "model.onnx",
        dynamo=True,
        opset_version=OPSET,
        external_data=False,
        verbose=False,
    )
    command = ["onnx2tf", "-i", "model.onnx", "-o", "out", "-n"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode or not (folder / "out" / "model_float32.tflite").exists():
        said = [line.strip() for line in done.stdout.splitlines() if "ERROR" in line]
        raise RuntimeError(f"onnx2tf ended with status {done.returncode}: {next(iter(said), 'and no file')}")


if __name__ == "__main__":
    # onnx2tf would go on for minutes.
    child.die_with_parent()
    serve({"weigh": weigh, "prepare": prepare, "ours": ours, "plain": plain})
