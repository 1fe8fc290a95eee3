"""Target `tflite`: written directly, or by onnx2tf where the direct writer lacks an operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ..models.errors import ConversionFailed, EdgeError, MissingDependency, Unsupported
from . import child, mixed
from .artifact import TensorRecord
from .conversion import Conversion, Converter

if TYPE_CHECKING:
    from torch import nn

    from .artifact import Precision
    from .card import Card
    from .inspection import Inspection
    from .losses import Probe
    from .tflite.graph import Graph

CHOICES: Final = {"via": ("auto", "direct", "onnx2tf"), "io": ("nhwc", "nchw"), "input": ("float", "int8", "uint8")}


class TfliteConverter:
    """`via` is the way to the file, `io` the layout of its inputs, `input` the dtype at its edges (`int8` only)."""

    suffix: ClassVar[str] = "tflite"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "w8", "int8", "w8a16", "mixed")
    default_precision: ClassVar[Precision] = "fp32"
    calibrated: ClassVar[tuple[Precision, ...]] = ("int8", "w8a16", "mixed")
    requires: ClassVar[tuple[str, ...]] = ("ai_edge_litert",)
    may_use: ClassVar[tuple[str, ...]] = ("onnx2tf", "tensorflow")
    usage: ClassVar[tuple[str, ...]] = (
        "try it: evit-edge predict model.tflite PICTURE; Android: put it into assets/ and open it with LiteRT",
    )
    options: ClassVar[Mapping[str, Any]] = {"via": "auto", "io": "nhwc", "input": "float", **mixed.OPTIONS}

    def check(self, conversion: Conversion) -> Mapping[str, Any]:
        """Raises `Unsupported` for a choice that does not exist or does not fit, `MissingDependency` for a way."""
        for name, choices in CHOICES.items():
            if conversion.options[name] not in choices:
                raise Unsupported(f"--{name} {conversion.options[name]} is not known", f"choose {', '.join(choices)}")
        mixed.check(conversion)
        if conversion.options["input"] != "float" and conversion.precision != "int8":
            raise Unsupported(
                f"--input {conversion.options['input']} needs integers inside, not {conversion.precision}",
                "add --precision int8",
            )
        if conversion.precision == "w8a16" and conversion.options["via"] == "direct":
            raise Unsupported("the direct writer has no w8a16", "take --via onnx2tf, or int8")
        if conversion.precision == "mixed" and conversion.options["via"] == "onnx2tf":
            raise Unsupported("onnx2tf cannot leave some operators in float", "take --via direct, or int8")
        if conversion.precision == "w8a16" or conversion.options["via"] == "onnx2tf":
            _require_onnx2tf()
        return conversion.options

    def convert(self, model: nn.Module, conversion: Conversion, out: Path) -> Sequence[str]:
        """Write `out`, and say which way it went if that was not the first choice; raises `ConversionFailed`."""
        from .tflite.lowering import NotLowered

        notes: list[str] = []
        via = "direct" if conversion.precision == "mixed" else conversion.options["via"]
        if via == "auto" and conversion.precision == "w8a16":
            via = "onnx2tf"
            notes.append("w8a16 goes by way of onnx2tf: the direct writer has no int16 activations")
        if via != "onnx2tf":
            try:
                notes += _write_directly(model, conversion, out)
            except NotLowered as error:
                if via == "direct":
                    raise ConversionFailed(error.message, "try --via onnx2tf") from error
                notes.append(f"by way of onnx2tf: {error.message}")
                via = "onnx2tf"
        if via == "onnx2tf":
            _write_by_onnx2tf(model, conversion, out, why=notes)
        _describe(conversion, out)
        return notes

    def inspect(self, path: Path) -> Inspection:
        """What the file's first subgraph holds; raises `BadArtifact`."""
        from .tflite import inspection

        return inspection.inspect(path)

    def card_of(self, path: Path) -> Card:
        """The card behind the model, with the labels beside it."""
        from .tflite import metadata

        return metadata.read(path)

    def tensors_of(
        self, conversion: Conversion, path: Path
    ) -> tuple[tuple[TensorRecord, ...], tuple[TensorRecord, ...]]:
        """Those of the file's signature."""
        from .tflite import inspection

        spec, layout = conversion.spec, conversion.options["io"]
        return (
            inspection.tensors(path, [t.name for t in spec.inputs], side="inputs", layout=layout),
            inspection.tensors(path, [t.name for t in spec.outputs], side="outputs", layout=layout),
        )

    def probe(self, model: nn.Module, conversion: Conversion, path: Path) -> Probe:
        """Of files that were written directly: those of onnx2tf have other tensors."""
        from .losses import refuse_floats
        from .tflite import losses

        refuse_floats(path, conversion.precision, among=("fp32",))
        # Before the float form is made, which takes long.
        losses.read(path)
        return _probe(_float_graph(model, conversion), conversion, path)


def _write_directly(model: nn.Module, conversion: Conversion, out: Path) -> list[str]:
    """Returns what is to be said of the file."""
    from functools import partial

    from . import adjustment, loss_proof
    from .tflite import direct, writer
    from .tflite.proof import COUNT

    spec, options = conversion.spec, conversion.options
    # The form for any batch: its products are 3-D, which XNNPACK takes.
    adjusted = adjustment.adjust(spec.deploy(model, None), model, conversion)
    notes = [*adjusted.notes]
    floating: list[Graph] = []

    def choose(form: mixed.Mixable) -> frozenset[str]:
        choice = mixed.choose(form, mixed.budget_of(conversion), on_step=child.say)
        notes.extend(choice.notes)
        return choice.names

    graph = direct.graph_of(
        adjusted.module,
        (conversion.batch, *spec.inputs[0].shape[1:]),
        precision=conversion.precision,
        channels_last=options["io"] == "nhwc",
        edge=options["input"],
        feeds=conversion.calibration_feeds if conversion.calibration else partial(conversion.proof_feeds, COUNT),
        method=conversion.calibration.method if conversion.calibration else "minmax",
        # A fault of the leaner form would go through with it: what counts is what the user trained.
        reference=adjusted.reference,
        trials=mixed.trials(conversion) if conversion.precision == "mixed" else (),
        choose=choose,
        keep=floating.append,
    )
    names = [[tensor.name for tensor in tensors] for tensors in (spec.inputs, spec.outputs)]
    out.write_bytes(writer.write(graph, inputs=names[0], outputs=names[1]))
    if conversion.precision == "mixed":
        mixed.verify(CONVERTER.inspect(out), mixed.budget_of(conversion))
    for before in floating:
        loss_proof.prove(_probe(before, conversion, out), conversion)
    return notes


def _probe(floating: Graph, conversion: Conversion, path: Path) -> Probe:
    from .tflite import losses

    return losses.TfliteProbe(losses.read(path), floating, *CONVERTER.tensors_of(conversion, path))


def _float_graph(model: nn.Module, conversion: Conversion) -> Graph:
    """What the direct writer quantizes."""
    from .tflite import direct

    spec = conversion.spec
    shape = (conversion.batch, *spec.inputs[0].shape[1:])
    return direct.graph_of(spec.deploy(model, None), shape, channels_last=conversion.options["io"] == "nhwc")


def _write_by_onnx2tf(model: nn.Module, conversion: Conversion, out: Path, *, why: Sequence[str]) -> None:
    from .tflite import by_onnx2tf

    # Where both ways fail, what the first lacked names the place in the user's own model.
    before = [note.removeprefix("by way of onnx2tf: ") for note in why]
    try:
        _require_onnx2tf()
        by_onnx2tf.convert(model, conversion, out, calibration=conversion.calibration_feeds)
    except (ConversionFailed, MissingDependency) as error:
        raise type(error)("; ".join([*before, error.message]), error.hint) from error
    except (EdgeError, OSError):
        raise
    except Exception as error:
        # PyTorch's exporter to ONNX has many ways to refuse a model.
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
        said = f"the way to ONNX, which onnx2tf needs, fails: {type(error).__name__}: {reason}"
        raise ConversionFailed("; ".join([*before, said])) from error


def _require_onnx2tf() -> None:
    import importlib.util

    if importlib.util.find_spec("onnx2tf") is None:
        raise MissingDependency("this way to TFLite needs onnx2tf", "pip install 'evit-edge[onnx2tf]'")


def _describe(conversion: Conversion, out: Path) -> None:
    """Put what a user of the file alone needs into it."""
    from .tflite import metadata

    inputs, outputs = CONVERTER.tensors_of(conversion, out)
    metadata.attach(
        out,
        spec=conversion.spec,
        precision=conversion.precision,
        inputs=inputs,
        outputs=outputs,
        # The manifest holds the digest of this file, so the file can only hold the key of the manifest.
        extra={"manifest_key": conversion.key},
    )


CONVERTER: Final[Converter] = TfliteConverter()
