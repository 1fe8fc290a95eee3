"""Target `onnx`: one file, opset 18 unless asked otherwise, float32 inputs and outputs at every precision."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ..models.errors import BadArtifact, ConversionFailed, Unsupported
from .artifact import TensorRecord
from .conversion import Conversion, Converter

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from .artifact import Precision
    from .card import Card
    from .inspection import Inspection

OPSETS: Final = range(18, 24)
# QuantizeLinear of opset 23 has no kernel in ONNX Runtime 1.23.
INT8_OPSETS: Final = range(18, 23)


class OnnxConverter:
    """`torch.onnx.export` through `torch.export`; fp16 is the module cast to half between two casts.

    `host` is the kind of CPU that int8 is made for, one of `host.HOSTS`, or `auto`: this one.
    """

    suffix: ClassVar[str] = "onnx"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "int8")
    default_precision: ClassVar[Precision] = "fp32"
    calibrated: ClassVar[tuple[Precision, ...]] = ("int8",)
    requires: ClassVar[tuple[str, ...]] = ("onnx", "onnxscript", "onnxruntime")
    may_use: ClassVar[tuple[str, ...]] = ()
    usage: ClassVar[tuple[str, ...]] = (
        "Python: onnxruntime.InferenceSession('model.onnx').run(None, {'image': pixels})",
    )
    options: ClassVar[Mapping[str, Any]] = {"opset": OPSETS[0], "host": "auto"}

    def check(self, conversion: Conversion) -> None:
        """Raises `Unsupported` for an opset that cannot be written, or a host that is unknown or means nothing."""
        from .onnx.host import HOSTS

        opset, host = conversion.options["opset"], conversion.options["host"]
        if opset not in OPSETS:
            raise Unsupported(f"opset {opset} cannot be written", f"choose {OPSETS[0]} to {OPSETS[-1]}")
        if conversion.precision == "int8" and opset not in INT8_OPSETS:
            raise Unsupported(f"opset {opset} has no int8 kernels", f"choose {OPSETS[0]} to {INT8_OPSETS[-1]}")
        if host not in ("auto", *HOSTS):
            raise Unsupported(f"--host {host} is not known", f"choose auto, {', '.join(HOSTS)}")
        if host != "auto" and conversion.precision != "int8":
            raise Unsupported(
                f"--host {host} needs integers inside, not {conversion.precision}", "add --precision int8"
            )

    def convert(self, model: nn.Module, conversion: Conversion, out: Path) -> Sequence[str]:
        """Write `out` from the deploy graph; raises `ConversionFailed`, and `ParityFailed` before it is quantized."""
        import onnx

        proto, notes = _exported(model, conversion), list[str]()
        if conversion.precision == "int8":
            from .onnx import making

            proto, notes = making.quantized(proto, model, conversion)
        _describe(proto, conversion)
        onnx.checker.check_model(proto, full_check=True)
        onnx.save_model(proto, out)
        return notes

    def inspect(self, path: Path) -> Inspection:
        """What the main graph holds, weights in files beside it included; raises `BadArtifact`."""
        from .onnx import inspection

        return inspection.inspect(path)

    def card_of(self, path: Path) -> Card:
        """An .onnx file has none: raises `BadArtifact`."""
        raise BadArtifact(f"{path} does not say how its images are prepared", "give the artifact's folder")

    def tensors_of(
        self, conversion: Conversion, path: Path
    ) -> tuple[tuple[TensorRecord, ...], tuple[TensorRecord, ...]]:
        """Those of the model, with the batch of the conversion: the file has the same at every precision."""
        inputs, outputs = (
            tuple(TensorRecord(name=t.name, shape=(conversion.batch, *t.shape[1:]), dtype=t.dtype) for t in tensors)
            for tensors in (conversion.spec.inputs, conversion.spec.outputs)
        )
        return inputs, outputs


def _exported(model: nn.Module, conversion: Conversion) -> onnx.ModelProto:
    import torch

    spec = conversion.spec
    module = spec.deploy(model, conversion.batch)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _between_casts(module) if conversion.precision == "fp16" else module,
            (_example(conversion),),
            dynamo=True,
            opset_version=conversion.options["opset"],
            input_names=[tensor.name for tensor in spec.inputs],
            output_names=[tensor.name for tensor in spec.outputs],
            dynamic_shapes=[{0: torch.export.Dim("batch", min=1)}] if conversion.batch is None else None,
            optimize=True,
            verify=False,
        )
    if program is None:
        raise ConversionFailed(f"torch.onnx.export gave no program for {spec.name}")
    proto = program.model_proto
    _forget_the_source(proto.graph)
    return proto


def _example(conversion: Conversion) -> Any:
    """Random pixels: zeros or a batch of 1 could be taken for constants."""
    import torch

    batch = 2 if conversion.batch is None else conversion.batch
    shape = conversion.spec.inputs[0].shape
    return torch.rand(batch, *(side for side in shape[1:] if side is not None))


def _between_casts(module: nn.Module) -> nn.Module:
    """The module in half precision, taking and giving float32."""
    import torch

    class Half(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module.half()

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.module(image.half())
            return logits.float()

    return Half().eval()


def _forget_the_source(graph: onnx.GraphProto) -> None:
    # The exporter notes for each node the Python stack that made it, with the paths of this machine.
    del graph.metadata_props[:]
    del graph.value_info[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


def _describe(proto: onnx.ModelProto, conversion: Conversion) -> None:
    spec = conversion.spec
    proto.producer_name = "evit-edge"
    proto.doc_string = f"{spec.name}, weights {spec.weights_name}, {conversion.precision}"
    properties = {
        "model": spec.name,
        "weights_sha256": spec.weights_sha256,
        "licence": spec.licence,
        "labels": json.dumps(spec.labels),
        "preprocess": json.dumps(asdict(spec.preprocess)),
    }
    del proto.metadata_props[:]
    for key, value in properties.items():
        proto.metadata_props.add(key=key, value=value)


CONVERTER: Final[Converter] = OnnxConverter()
