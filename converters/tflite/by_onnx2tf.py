"""From PyTorch to TFLite by way of ONNX and onnx2tf: for what the direct writer does not know.

onnx2tf gets to see neither the calibration images nor the precision: given several images, version 1.29.24 writes a
wrong model without a word, the float32 file included. So it makes the float model, and TensorFlow's converter, called
by us, quantizes it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ...models.errors import ConversionFailed
from .. import child
from ..to_onnx import CONVERTER as ONNX
from .proof import COUNT, prove

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from ..conversion import Conversion

    Calibration = Callable[[], Iterable[NDArray[np.float32]]]

WORKER: Final = f"{__package__}.onnx2tf_worker"
FLOAT_FILE: Final = "float.tflite"
CALIBRATION_FILE: Final = "calibration.f32"
CALIBRATED: Final = ("int8", "w8a16")


def convert(
    model: nn.Module,
    conversion: Conversion,
    out: Path,
    *,
    calibration: Calibration,
    timeout_s: float = 1500,
    memory_bytes: int = 12 * 2**30,
) -> None:
    """Write the TFLite file `out` from the eager model; onnx2tf and TensorFlow run in a child with these limits.

    `calibration()` gives normalised float32 (1, channels, height, width), and is asked at int8 and w8a16 alone.
    Raises `ConversionFailed` with the ONNX operator that was in the way, where onnx2tf tells, and `ParityFailed` where
    the float model that a reduced precision is made from is off; nothing but a complete `out` is left behind.
    """
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent.resolve()) as name:
        folder = Path(name)
        ONNX.convert(model, _to_onnx(conversion), folder / "model.onnx")
        if conversion.precision in CALIBRATED:
            _save_calibration(calibration(), conversion, folder / CALIBRATION_FILE)
        try:
            child.call(WORKER, _job(conversion, folder, memory_bytes=memory_bytes), timeout_s=timeout_s)
        except child.ChildCrashed as error:
            limits = f"it had {timeout_s:g} s and {memory_bytes / 2**30:g} GiB of memory"
            raise ConversionFailed(f"{conversion.folder_name}: onnx2tf {error.message}", limits) from error
        except ConversionFailed as error:
            raise ConversionFailed(f"{conversion.folder_name}: onnx2tf {error.message}", error.hint) from error
        if conversion.precision != "fp32":
            _prove(folder / FLOAT_FILE, model, conversion)
        written = folder / "model.tflite"
        if not written.exists():
            raise ConversionFailed(f"{conversion.folder_name}: onnx2tf ended without an error and without a file")
        written.replace(out)


def _prove(file: Path, model: nn.Module, conversion: Conversion) -> None:
    channels_last = conversion.options["io"] == "nhwc"
    shape = (conversion.batch, *conversion.spec.inputs[0].shape[1:])
    prove(file.read_bytes(), model, shape, channels_last=channels_last, feeds=conversion.proof_feeds(COUNT))


def _to_onnx(conversion: Conversion) -> Conversion:
    return replace(conversion, target="onnx", precision="fp32", options=ONNX.options)


def _job(conversion: Conversion, folder: Path, *, memory_bytes: int) -> dict[str, Any]:
    spec = conversion.spec
    nchw = conversion.options["io"] == "nchw"
    return {
        "folder": str(folder),
        "precision": conversion.precision,
        "io_dtype": conversion.options["input"] if conversion.precision == "int8" else "float",
        "batch": conversion.batch,
        "inputs": [tensor.name for tensor in spec.inputs],
        "shapes": [_in_file(tensor.shape[1:], nchw=nchw) for tensor in spec.inputs],
        "outputs": [tensor.name for tensor in spec.outputs],
        "nchw": nchw,
        "memory_bytes": memory_bytes,
    }


def _in_file(shape: tuple[int | None, ...], *, nchw: bool) -> tuple[int | None, ...]:
    """Channels last, as onnx2tf has them, unless it is told to keep them first."""
    return shape if nchw or len(shape) != 3 else (*shape[1:], shape[0])


def _save_calibration(images: Iterable[NDArray[np.float32]], conversion: Conversion, file: Path) -> None:
    """Float32 in the file's layout, image after image and nothing else: their number costs no memory."""
    with file.open("wb") as stream:
        for image in images:
            stream.write((image if conversion.options["io"] == "nchw" else image.transpose(0, 2, 3, 1)).tobytes())
        if not stream.tell():
            raise ConversionFailed(f"{conversion.folder_name}: there are no images to calibrate with")
