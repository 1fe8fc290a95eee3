"""A network of a second, quantized for each target, and its saved file with one scale changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from evit_edge.converters import proof
from evit_edge.converters.adjustment import Adjusted
from evit_edge.converters.conversion import CONVERTERS, Conversion, plan
from evit_edge.converters.loss_meter import measure
from evit_edge.converters.losses import Losses
from evit_edge.converters.tflite import flatbuffer
from evit_edge.models.spec import ModelRequest, find

from .coreml import tiny
from .coreml.damage import Damaged

Array = NDArray[Any]
Edit = Callable[[Array], Array]

SPEC = tiny.spec()
MODEL = SPEC.build()
IMAGES = 4


def planned(target: str, precision: str = "int8", options: dict[str, Any] | None = None) -> Conversion:
    images: dict[str, Any] = {"calibration_images": 4} if precision in ("int8", "mixed") else {}
    return plan(SPEC, target, precision=precision, options=options, **images)


def demo(target: str, **options: Any) -> Conversion:
    """EfficientViT-M0 on digits to int8."""
    return plan(find(ModelRequest(name="efficientvit_m0", weights="demo")), target, precision="int8", **options)


def written(target: str, folder: Path, precision: str = "int8", options: dict[str, Any] | None = None) -> Path:
    converter = CONVERTERS.load(target)
    path = folder / f"model.{converter.suffix}"
    converter.convert(MODEL, planned(target, precision, options), path)
    return path


def measured(target: str, path: Path, precision: str = "int8") -> Losses:
    probe = CONVERTERS.load(target).probe(MODEL, planned(target, precision), path)
    pixels = SPEC.preprocess.normalise(SPEC.sample_pixels(IMAGES))
    return measure(probe, (pixels[i : i + 1] for i in range(IMAGES)), lambda feed: proof.answers(MODEL, feed))


def times(factor: float, channel: int | None = None) -> Edit:
    def edit(scale: Array) -> Array:
        changed = np.array(scale)
        changed[... if channel is None else channel] *= factor
        return changed.astype(scale.dtype)

    return edit


def in_onnx(path: Path, name: str, edit: Edit) -> None:
    """The scale of a tensor or of weights."""
    model = onnx.load(path)
    (scale,) = [tensor for tensor in model.graph.initializer if tensor.name == f"{name}_scale"]
    scale.CopyFrom(onnx.numpy_helper.from_array(edit(onnx.numpy_helper.to_array(scale)), scale.name))
    onnx.save(model, path)


def in_tflite(path: Path, name: str, edit: Edit) -> None:
    model = flatbuffer.unpack(path.read_bytes())
    (tensor,) = [tensor for tensor in model.subgraphs[0].tensors if tensor.name == name.encode()]
    tensor.quantization.scale = edit(np.array(tensor.quantization.scale))
    repack(model, path)


def repack(model: Any, path: Path) -> None:
    """Write a changed model, which has none of the files behind it that its metadata name."""
    for entry in model.metadata:
        model.buffers[entry.buffer].data = None
    model.metadata = None
    path.write_bytes(flatbuffer.pack(model))


def in_coreml(path: Path, folder: Path, *, pair: int | None = None, weights: int | None = None, edit: Edit) -> Path:
    """A copy with another scale of the `pair`-th rounding, or of the weights of the layer in that place."""
    package = Damaged(path, folder)
    if pair is not None:
        for kind in ("quantize", "dequantize"):
            package.change(package.operations(kind)[pair], "scale", edit)
    if weights is not None:
        package.change(package.operations("constexpr_affine_dequantize")[weights], "scale", edit)
    package.save()
    return package.path


def unadjusted(module: nn.Module, model: nn.Module, conversion: Conversion) -> Adjusted:
    """In the place of `adjustment.adjust`: nothing is done."""
    return Adjusted(module=module, reference=model, notes=())
