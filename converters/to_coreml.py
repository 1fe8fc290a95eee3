"""Target `coreml`: an ML Program in an `.mlpackage`, written by coremltools, proven by the reference executor."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ..models.errors import Unsupported
from . import mixed
from .artifact import Normalisation, TensorRecord
from .conversion import Conversion, Converter

if TYPE_CHECKING:
    from torch import nn

    from .artifact import Precision
    from .card import Card
    from .coreml.writer import Form
    from .inspection import Inspection
    from .losses import Probe

# The oldest system whose programs can hold a precision.
OLDEST: Final[Mapping[str, str]] = {
    "fp32": "iOS15",
    "fp16": "iOS15",
    **dict.fromkeys(("w8", "pal8", "pal6", "pal4"), "iOS16"),
    **dict.fromkeys(("int8", "mixed"), "iOS17"),
}
TARGETS: Final = ("iOS15", "iOS16", "iOS17", "iOS18", "iOS26")
CHOICES: Final = {"input": ("tensor", "image"), "output": ("logits", "classifier"), "ios": ("auto", *TARGETS)}


class CoremlConverter:
    """`ios` is the oldest system that has to run it (auto: the oldest that can), `batches` what a dynamic batch may be.

    `input` image takes pictures and normalises them itself; `output` classifier gives a label and probabilities.
    """

    suffix: ClassVar[str] = "mlpackage"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "w8", "int8", "pal8", "pal6", "pal4", "mixed")
    default_precision: ClassVar[Precision] = "fp16"
    calibrated: ClassVar[tuple[Precision, ...]] = ("int8", "mixed")
    requires: ClassVar[tuple[str, ...]] = ("coremltools",)
    may_use: ClassVar[tuple[str, ...]] = ()
    usage: ClassVar[tuple[str, ...]] = (
        "Xcode: drag model.mlpackage into the project; its tab shows inputs, outputs and metadata",
        "Swift: let net = try model(configuration: MLModelConfiguration()); try net.prediction(image: …)",
        "try it here: evit-edge predict model.mlpackage PICTURE",
    )
    options: ClassVar[Mapping[str, Any]] = {
        "ios": "auto",
        "input": "tensor",
        "output": "logits",
        "batches": "1..64",
        **mixed.OPTIONS,
    }

    def check(self, conversion: Conversion) -> Mapping[str, Any]:
        """Raises `Unsupported` for a choice that does not exist, or that the system or the rest does not allow."""
        for name, choices in CHOICES.items():
            if conversion.options[name] not in choices:
                raise Unsupported(f"--{name} {conversion.options[name]} is not known", f"choose {', '.join(choices)}")
        oldest = OLDEST[conversion.precision]
        if TARGETS.index(_ios(conversion)) < TARGETS.index(oldest):
            raise Unsupported(f"{_ios(conversion)} has no {conversion.precision}", f"take --ios {oldest} or later")
        _batches(conversion)
        mixed.check(conversion)
        if conversion.options["input"] == "image" and conversion.batch != 1:
            raise Unsupported("Core ML takes one picture at a time", "leave --batch out, or --input image")
        if conversion.options["output"] == "classifier":
            _check_classifier(conversion)
        return conversion.options

    def convert(self, model: nn.Module, conversion: Conversion, out: Path) -> Sequence[str]:
        """Write `out`, and say which operators had to stay in float32, or did at `mixed`.

        Raises `ConversionFailed`, `ParityFailed`, and `PrecisionNotMet` for a budget of `mixed` that cannot be kept.
        """
        from . import adjustment
        from .coreml import making

        adjusted = adjustment.adjust(conversion.spec.deploy_channels(model), model, conversion)
        made = making.make(
            # A fault of the leaner form would go through with it: what counts is what the user trained.
            making.Source(module=adjusted.module, reference=adjusted.reference),
            conversion,
            _form(conversion),
            out,
            tensors=lambda path: self.tensors_of(conversion, path),
        )
        return [*adjusted.notes, *made]

    def inspect(self, path: Path) -> Inspection:
        """What the program holds, whoever wrote it; raises `BadArtifact`."""
        from .coreml import inspection

        return inspection.inspect(path)

    def card_of(self, path: Path) -> Card:
        """The card among the package's user-defined metadata."""
        from .coreml import metadata

        return metadata.read(path)

    def tensors_of(
        self, conversion: Conversion, path: Path
    ) -> tuple[tuple[TensorRecord, ...], tuple[TensorRecord, ...]]:
        """Those of the package's description; a classifier's probabilities stand for the model's logits."""
        inspected, spec = self.inspect(path), conversion.spec
        (taken,) = inspected.inputs
        if conversion.options["input"] == "image":
            normalisation = Normalisation(mean=spec.preprocess.mean, std=spec.preprocess.std)
            taken = taken.model_copy(update={"normalisation": normalisation})
        if conversion.options["output"] == "classifier":
            (output,) = spec.outputs
            shape = (conversion.batch, *output.shape[1:])
            return (taken,), (TensorRecord(name=output.name, shape=shape, dtype="float32", softmax=True),)
        by_name = {record.name: record for record in inspected.outputs}
        # The description of an output has no free sizes: its batch is the input's.
        outputs = (by_name[t.name].model_copy(update={"shape": (conversion.batch, *t.shape[1:])}) for t in spec.outputs)
        return (taken,), tuple(outputs)

    def probe(self, model: nn.Module, conversion: Conversion, path: Path) -> Probe:
        """Of programs with compressed weights or int8."""
        from .coreml import losses, making, program
        from .losses import refuse_floats

        refuse_floats(path, conversion.precision)
        written = program.load(path)
        floating = making.make_floating(
            conversion.spec.deploy_channels(model),
            conversion,
            _form(conversion),
            tensors=lambda saved: self.tensors_of(conversion, saved),
        )
        return losses.CoremlProbe(written, floating.program, *self.tensors_of(conversion, path))


def _ios(conversion: Conversion) -> str:
    chosen: str = conversion.options["ios"]
    return OLDEST[conversion.precision] if chosen == "auto" else chosen


def _check_classifier(conversion: Conversion) -> None:
    if conversion.batch != 1:
        raise Unsupported("a Core ML classifier answers for one picture at a time", "leave --batch out")
    if not conversion.spec.labels:
        raise Unsupported(f"{conversion.spec.name} has no labels to classify by", "leave --output classifier out")


def _batches(conversion: Conversion) -> tuple[tuple[int, ...], bool]:
    """The sizes that a batch can have, and whether they are the ends of a range; raises `Unsupported`."""
    if conversion.batch is not None:
        return (conversion.batch,), False
    text = conversion.options["batches"]
    found = re.fullmatch(r"(\d+)\.\.(\d+)", text)
    sizes = [int(part) for part in (found.groups() if found else text.split(","))] if _DIGITS.fullmatch(text) else []
    if len(set(sizes)) < 2 or sizes != sorted(set(sizes)) or sizes[0] < 1:
        raise Unsupported(f"{text!r} are no sizes of a batch", "give a list such as 1,4,16, or a range such as 1..64")
    return tuple(sizes), found is not None


_DIGITS: Final = re.compile(r"\d+(,\d+)+|\d+\.\.\d+")


def _form(conversion: Conversion) -> Form:
    from .coreml.writer import Form

    spec, options = conversion.spec, conversion.options
    batches, ranged = _batches(conversion)
    return Form(
        target=_ios(conversion),
        shape=tuple(side for side in spec.inputs[0].shape[1:] if side is not None),
        inputs=[tensor.name for tensor in spec.inputs],
        outputs=[tensor.name for tensor in spec.outputs],
        half=conversion.precision != "fp32",
        batches=batches,
        ranged=ranged,
        preprocess=spec.preprocess if options["input"] == "image" else None,
        labels=spec.labels if options["output"] == "classifier" else None,
    )


CONVERTER: Final[Converter] = CoremlConverter()
