"""The way to a package: a float program, measured and proven, then compressed, described and saved."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ...models.errors import ConversionFailed
from .. import card
from ..golden import LARGE_GAIN
from ..tensors import holds
from . import compress, int8, metadata, overflow
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


def make(
    source: Source, conversion: Conversion, form: Form, out: Path, *, tensors: Callable[[Path], Records]
) -> list[str]:
    """Write the package `out`, and say what was not as expected; `tensors` gives the records of a saved one."""
    with tempfile.TemporaryDirectory(prefix="evit-edge-") as scratch:
        floating = Path(scratch, "float.mlpackage")
        model = write(source.module, form)
        metadata.save(model, floating)
        notes, kept = [], list[str]()
        inputs, outputs = tensors(floating)
        large = overflow.find(load(floating), _trials(conversion, inputs[0])) if form.half else frozenset[str]()
        if large:
            model = write(source.module, form, keep_float32=large)
            metadata.save(model, floating)
            kept = overflow.kept(load(floating))
            notes.append(f"in float32, since float16 ends at {overflow.LARGEST:,.0f}: {', '.join(kept)}")
        program = load(floating)
        if conversion.precision in WEIGHTS:
            prove(program, source.reference, conversion.proof_feeds(COUNT), taken=inputs[0], given=outputs)
            model = _reduced(model, conversion, form, program, inputs[0])
        described = card.make(conversion.spec, conversion.precision, inputs, outputs, {"manifest_key": conversion.key})
        metadata.describe(model, described, conversion.spec, float32=kept)
        metadata.save(model, out)
        if conversion.precision in WEIGHTS:
            prove_weights(program, load(out), conversion.precision)
    return notes


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


def _reduced(model: Any, conversion: Conversion, form: Form, program: Program, taken: TensorRecord) -> Any:
    if conversion.precision == "w8":
        return compress.quantize_weights(model)
    if conversion.precision == "int8":
        feeds = ({taken.name: fitted(taken, feed)} for feed in conversion.calibration_feeds())
        return int8.quantize(model, program, _ranges(program, feeds, conversion))
    return compress.palettize(model, conversion.precision, grouped=form.target in GROUPED_FROM)
