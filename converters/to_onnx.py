"""Target `onnx`: one file, opset 18 unless asked otherwise, float32 inputs and outputs at every precision."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ..models.errors import BadArtifact, ConversionFailed, Unsupported
from . import mixed
from .artifact import TensorRecord
from .conversion import Conversion, Converter

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from .artifact import Precision
    from .card import Card
    from .inspection import Inspection
    from .losses import Probe

OPSETS: Final = range(18, 24)
# QuantizeLinear of opset 23 has no kernel in ONNX Runtime 1.23.
INT8_OPSETS: Final = range(18, 23)


class OnnxConverter:
    """`torch.onnx.export` through `torch.export`; fp16 is the module cast to half between two casts.

    `host` is the kind of CPU that int8 is made for, one of `host.HOSTS`, or `auto`: this one.
    """

    suffix: ClassVar[str] = "onnx"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "w8", "int8", "mixed")
    default_precision: ClassVar[Precision] = "fp32"
    calibrated: ClassVar[tuple[Precision, ...]] = ("int8", "mixed")
    requires: ClassVar[tuple[str, ...]] = ("onnx", "onnxscript", "onnxruntime")
    may_use: ClassVar[tuple[str, ...]] = ()
    usage: ClassVar[tuple[str, ...]] = (
        "Python: onnxruntime.InferenceSession('model.onnx').run(None, {'image': pixels})",
    )
    options: ClassVar[Mapping[str, Any]] = {"opset": OPSETS[0], "host": "auto", **mixed.OPTIONS}

    def check(self, conversion: Conversion) -> Mapping[str, Any]:
        """With the measured host for int8; raises `Unsupported` for an opset or a host that is unknown or no use."""
        from .onnx.host import HOSTS, measured_host

        opset, host = conversion.options["opset"], conversion.options["host"]
        if opset not in OPSETS:
            raise Unsupported(f"opset {opset} cannot be written", f"choose {OPSETS[0]} to {OPSETS[-1]}")
        mixed.check(conversion)
        integers = conversion.precision in self.calibrated
        if integers and opset not in INT8_OPSETS:
            raise Unsupported(f"opset {opset} has no int8 kernels", f"choose {OPSETS[0]} to {INT8_OPSETS[-1]}")
        if host not in ("auto", *HOSTS):
            raise Unsupported(f"--host {host} is not known", f"choose auto, {', '.join(HOSTS)}")
        if host != "auto" and not integers:
            raise Unsupported(
                f"--host {host} needs integers inside, not {conversion.precision}", "add --precision int8"
            )
        return {**conversion.options, "host": measured_host() if integers and host == "auto" else host}

    def convert(self, model: nn.Module, conversion: Conversion, out: Path) -> Sequence[str]:
        """Write `out` from the deploy graph, and say what it was made for.

        Raises `ConversionFailed`, `ParityFailed` for a float form or weights that are not the model's or an operator
        with a wrong scale, and `PrecisionNotMet` for integers that do not suit the host.
        """
        import onnx

        from . import adjustment, loss_proof
        from .onnx import making

        adjusted = adjustment.adjust(conversion.spec.deploy(model, conversion.batch), model, conversion)
        floating = _exported(adjusted.module, conversion)
        proto, notes = making.reduced(floating, adjusted.reference, conversion)
        _describe(proto, conversion)
        onnx.checker.check_model(proto, full_check=True)
        onnx.save_model(proto, out)
        making.read_back(onnx.load(out), floating, conversion)
        if conversion.precision in self.calibrated:
            loss_proof.prove(self._probe(floating, conversion, out), conversion)
        return [*adjusted.notes, *notes]

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

    def probe(self, model: nn.Module, conversion: Conversion, path: Path) -> Probe:
        """Of int8 and w8 files, whose tensors have the names that the float ones have."""
        from .losses import refuse_floats

        refuse_floats(path, conversion.precision)
        module = conversion.spec.deploy(model, conversion.batch)
        return self._probe(_exported(module, replace(conversion, precision="fp32")), conversion, path)

    def _probe(self, floating: onnx.ModelProto, conversion: Conversion, path: Path) -> Probe:
        from .onnx import engine, losses

        # Int8 starts from the graph after its fusions.
        ready = floating if conversion.precision == "w8" else engine.fused(floating)
        return losses.OnnxProbe(losses.read(path), ready, *self.tensors_of(conversion, path))


def _exported(module: nn.Module, conversion: Conversion) -> onnx.ModelProto:
    import torch

    spec = conversion.spec
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
