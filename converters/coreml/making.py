"""The way to a package: a float program, measured and proven, then compressed, described and saved."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ...models.errors import ConversionFailed
from .. import card, child, loss_proof, mixed
from ..golden import LARGE_GAIN
from ..tensors import holds
from . import compress, inspection, int8, metadata, overflow
from .losses import CoremlProbe
from .mixing import CoremlMixable
from .program import Program, load
from .proof import COUNT, WEIGHTS, fitted, prove, prove_weights
from .ranges import Ranges, measure
from .writer import Form, write

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from ..artifact import TensorRecord
    from ..conversion import Conversion

    Records = tuple[tuple[TensorRecord, ...], tuple[TensorRecord, ...]]

GROUPED_FROM: Final = ("iOS18", "iOS26")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The float32 module that is converted, and the one that the user trained, which must agree."""

    module: nn.Module
    reference: nn.Module


@dataclass(frozen=True, slots=True, kw_only=True)
class Floating:
    """The float program that a conversion starts from: its `MLModel`, as it is saved, and what is `kept` in float32."""

    model: Any
    program: Program
    inputs: tuple[TensorRecord, ...]
    outputs: tuple[TensorRecord, ...]
    kept: list[str]


def make(
    source: Source, conversion: Conversion, form: Form, out: Path, *, tensors: Callable[[Path], Records]
) -> list[str]:
    """Write the package `out`, and say what was not as expected; `tensors` gives the records of a saved one."""
    floating = make_floating(source.module, conversion, form, tensors=tensors)
    model, program, inputs, outputs = floating.model, floating.program, floating.inputs, floating.outputs
    notes = list[str]()
    if conversion.precision in WEIGHTS:
        prove(program, source.reference, conversion.proof_feeds(COUNT), taken=inputs[0], given=outputs)
        model, notes = _reduced(model, conversion, form, program, inputs[0])
    described = card.make(conversion.spec, conversion.precision, inputs, outputs, {"manifest_key": conversion.key})
    metadata.describe(model, described, conversion.spec, float32=floating.kept)
    metadata.save(model, out)
    if conversion.precision in WEIGHTS:
        prove_weights(program, load(out), conversion.precision)
    if conversion.calibration:
        loss_proof.prove(CoremlProbe(load(out), program, *tensors(out)), conversion)
    if conversion.precision == "mixed":
        mixed.verify(inspection.inspect(out), mixed.budget_of(conversion))
    if floating.kept:
        notes.append(f"in float32, since float16 ends at {overflow.LARGEST:,.0f}: {', '.join(floating.kept)}")
    return notes


def make_floating(
    module: nn.Module, conversion: Conversion, form: Form, *, tensors: Callable[[Path], Records]
) -> Floating:
    """The program before anything is compressed, in float16 as far as the form wants it and the values allow it."""
    with tempfile.TemporaryDirectory(prefix="evit-edge-") as scratch:
        path = Path(scratch, "float.mlpackage")
        model = write(module, form)
        metadata.save(model, path)
        inputs, outputs = tensors(path)
        kept = list[str]()
        large = overflow.find(load(path), _trials(conversion, inputs[0])) if form.half else frozenset[str]()
        if large:
            model = write(module, form, keep_float32=large)
            metadata.save(model, path)
            kept = overflow.kept(load(path))
        return Floating(model=model, program=load(path), inputs=inputs, outputs=outputs, kept=kept)


def _trials(conversion: Conversion, taken: TensorRecord) -> Iterator[dict[str, NDArray[Any]]]:
    """Some images, and the same as far beyond as the gate goes, if the file can be given those."""
    for feed in conversion.proof_feeds(COUNT):
        for each in (feed, feed * LARGE_GAIN):
            if holds(taken, each):
                yield {taken.name: fitted(taken, each)}


def _ranges(program: Program, feeds: Iterator[dict[str, NDArray[Any]]], conversion: Conversion) -> Ranges:
    assert conversion.calibration is not None  # `plan` gives one to what is calibrated
    found = measure(program, feeds, rounding=False, method=conversion.calibration.method)
    if wrong := [name for name, bounds in found.items() if not all(map(math.isfinite, bounds))]:
        raise ConversionFailed(f"calibration saw a value of {wrong[0]} that is not finite", "look at the images")
    return found


def _reduced(
    model: Any, conversion: Conversion, form: Form, program: Program, taken: TensorRecord
) -> tuple[Any, list[str]]:
    """The model in fewer bits, and what is to be said of it."""
    if conversion.precision == "w8":
        return compress.quantize_weights(model), []
    if conversion.precision not in ("int8", "mixed"):
        return compress.palettize(model, conversion.precision, grouped=form.target in GROUPED_FROM), []
    feeds = ({taken.name: fitted(taken, feed)} for feed in conversion.calibration_feeds())
    ranges = _ranges(program, feeds, conversion)
    quantized = int8.quantize(model, program, ranges)
    if conversion.precision == "int8":
        return quantized, []
    choice = _choice(quantized, conversion, program, taken)
    return int8.quantize(model, program, ranges, kept=choice.names), choice.notes


def _choice(quantized: Any, conversion: Conversion, program: Program, taken: TensorRecord) -> mixed.Choice:
    import numpy as np

    feeds = [fitted(taken, feed) for feed in mixed.trials(conversion)]
    # A free batch takes them all at once, many times as fast.
    whole = [np.concatenate(feeds)] if taken.shape[0] is None else feeds
    with tempfile.TemporaryDirectory(prefix="evit-edge-") as scratch:
        path = Path(scratch, "int8.mlpackage")
        metadata.save(quantized, path)
        tried = CoremlMixable(program, load(path), [{taken.name: feed} for feed in whole])
    return mixed.choose(tried, mixed.budget_of(conversion), on_step=child.say)
