"""One file a fresh process: by our own converter, or by the plain recipe that a user would run instead of it.

The clock starts with the loaded module and stops with the file; calibration is within that time.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from evit_edge.converters import calibration, child
from evit_edge.converters.conversion import CONVERTERS, Conversion, plan
from evit_edge.models.spec import ModelRequest, ModelSpec, find

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

OPSET: Final = 18
# onnx2tf downloads this unless it lies in the current folder.
SAMPLES: Final = ("calibration_image_sample_data_20x128x128x3_float32.npy", (20, 128, 128, 3))
Job = Mapping[str, Any]


def planned(spec: ModelSpec, job: Job) -> Conversion:
    """Our conversion of a job; raises `Unsupported` where the target has no such precision.

    Core ML gets a batch of any size, since the reference executor is ten times as fast with many images at a time.
    """
    target, precision = job["target"], job["precision"]
    calibrated = precision in CONVERTERS.load(target).calibrated
    images = {"calibrate": job["calibrate"] and Path(job["calibrate"]), "calibration_images": job["images"]}
    batch = None if target == "coreml" else 1
    return plan(spec, target, precision=precision, batch=batch, **(images if calibrated else {}))


def ours(module: nn.Module, spec: ModelSpec, job: Job, out: Path) -> None:
    """Without the gate: the tables say how right a file is, whatever that is."""
    CONVERTERS.load(job["target"]).convert(module, planned(spec, job), out)


def quantize_static(module: nn.Module, spec: ModelSpec, job: Job, out: Path) -> None:
    """ONNX Runtime's own, on the eager model's export after its own preprocessing, with `arguments` or the defaults."""
    import onnxruntime.quantization as ort
    from onnxruntime.quantization.shape_inference import quant_pre_process

    exported, ready = (out.with_name(name) for name in ("exported.onnx", "ready.onnx"))
    export(module, spec, exported)
    quant_pre_process(exported, ready)
    name = spec.inputs[0].name

    class Reader(ort.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds = _chosen(job).feeds(spec)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            return next(({name: feed} for feed in self.feeds), None)

    given = dict(job["arguments"])
    for key in ("activation_type", "weight_type"):
        if key in given:
            given[key] = ort.QuantType[given[key]]
    ort.quantize_static(ready, out, Reader(), **given)


def onnx2tf(module: nn.Module, spec: ModelSpec, job: Job, out: Path) -> None:
    """Its own command on the eager model's export, calibrating with the first `samples` images by `-cind`."""
    import numpy as np

    folder = out.parent
    export(module, spec, folder / "model.onnx")
    np.save(folder / SAMPLES[0], np.random.default_rng(0).random(SAMPLES[1], dtype=np.float32))
    pixels = np.stack(list(islice(_chosen(job).pixels(spec), job["samples"])))
    np.save(folder / "calibration.npy", pixels.astype(np.float32) / 255)
    mean, std = (f"[[[{list(values)}]]]" for values in (spec.preprocess.mean, spec.preprocess.std))
    command = ["onnx2tf", "-i", "model.onnx", "-o", "out", "-n", "-cind", spec.inputs[0].name, "calibration.npy"]
    command += [mean, std, *(["-oiqt"] if job["picked"] != "float32" else [])]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    written = folder / "out" / f"model_{job['picked']}.tflite"
    if done.returncode or not written.exists():
        said = [line.strip() for line in done.stdout.splitlines() if "ERROR" in line]
        raise RuntimeError(f"onnx2tf ended with status {done.returncode}: {next(iter(said), 'and no such file')}")
    written.replace(out)


def coremltools_weights(module: nn.Module, spec: ModelSpec, job: Job, out: Path) -> None:
    """A traced module through `ct.convert`, then `linear_quantize_weights`, both at their defaults; a batch of one."""
    import coremltools as ct
    import coremltools.optimize.coreml as cto
    import torch

    image = torch.rand(_shape(spec))
    traced = torch.jit.trace(module, image)
    inputs = [ct.TensorType(name=spec.inputs[0].name, shape=image.shape)]
    model = ct.convert(traced, inputs=inputs, skip_model_load=True)
    config = cto.OptimizationConfig(global_config=cto.OpLinearQuantizerConfig())
    cto.linear_quantize_weights(model, config=config).save(str(out))


RECIPES: Final[Mapping[str, Callable[[Any, ModelSpec, Job, Path], None]]] = {
    "ours": ours,
    "quantize_static": quantize_static,
    "onnx2tf": onnx2tf,
    "coremltools": coremltools_weights,
}


def export(module: nn.Module, spec: ModelSpec, out: Path) -> None:
    """The eager model at batch 1, as PyTorch's manual does it."""
    import torch

    torch.onnx.export(
        module,
        (torch.rand(_shape(spec)),),
        out,
        input_names=[spec.inputs[0].name],
        dynamo=True,
        opset_version=OPSET,
        external_data=False,
        verbose=False,
    )


def work(job: dict[str, Any]) -> dict[str, Any]:
    """Write `job["out"]`, complete or not at all; returns the seconds that it took."""
    import torch

    torch.set_num_threads(1)
    spec = find(ModelRequest(**job["request"]))
    module, out = spec.build(), Path(job["out"])
    with tempfile.TemporaryDirectory(prefix="unfinished-", dir=out.parent) as folder:
        start = time.perf_counter()
        RECIPES[job["recipe"]](module, spec, job, Path(folder, out.name))
        seconds = time.perf_counter() - start
        if out.is_dir():
            shutil.rmtree(out)
        Path(folder, out.name).replace(out)
    return {"seconds": seconds}


def _chosen(job: Job) -> calibration.Calibration:
    return calibration.choose(job["calibrate"] and Path(job["calibrate"]), job["images"])


def _shape(spec: ModelSpec) -> tuple[int, ...]:
    return (1, *(side for side in spec.inputs[0].shape[1:] if side is not None))


if __name__ == "__main__":
    child.serve(work)
