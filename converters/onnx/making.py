"""The way to fewer bits: a float model, proven, then compressed, or measured and quantized for a CPU; and read back."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from .. import child, mixed, proof
from . import host, inspection, int8, ranges, w8
from .engine import fused, session
from .mixing import OnnxMixable

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx
    from numpy.typing import NDArray
    from torch import nn

    from ..conversion import Conversion


def reduced(model: onnx.ModelProto, reference: nn.Module, conversion: Conversion) -> tuple[onnx.ModelProto, list[str]]:
    """A float `model` in the precision of the conversion, and what is to be said of it; itself if that is a float one.

    On four images the float model must first agree with `reference`, the module that the user trained: raises
    `ParityFailed`.
    """
    if conversion.precision in ("int8", "mixed"):
        return quantized(model, reference, conversion)
    if conversion.precision == "w8":
        prove(model.SerializeToString(), reference, conversion.proof_feeds(proof.COUNT), conversion.batch)
        return w8.compress(model), []
    return model, []


def read_back(written: onnx.ModelProto, floating: onnx.ModelProto, conversion: Conversion) -> None:
    """Look whether the file kept the weights, or has the integers that its host needs.

    Raises `ParityFailed` or `PrecisionNotMet`.
    """
    if conversion.precision == "w8":
        w8.prove(floating, written)
    if conversion.precision in ("int8", "mixed"):
        host.check(inspection.of(written).layers, conversion.options["host"])
    if conversion.precision == "mixed":
        mixed.verify(inspection.of(written), mixed.budget_of(conversion))


def quantized(
    model: onnx.ModelProto, reference: nn.Module, conversion: Conversion
) -> tuple[onnx.ModelProto, list[str]]:
    """An int8 or mixed form of a float `model`, and what is to be said of it.

    On four calibration images the float model must first agree with `reference`, the module that the user trained:
    raises `ParityFailed`.
    """
    prove(model.SerializeToString(), reference, islice(conversion.calibration_feeds(), proof.COUNT), conversion.batch)
    ready = fused(model)
    assert conversion.calibration is not None  # `plan` gives one to what is calibrated
    found = ranges.measure(ready, _feeds(conversion), conversion.calibration.method)
    chosen: host.Host = conversion.options["host"]
    measured = chosen == host.measured_host()
    notes = [f"integers that suit {chosen}, which this machine was measured to be"] if measured else []
    if not host.is_exact_for(chosen):
        notes.append(f"made for {chosen}: this machine's integers saturate, so its figures are worse than that CPU's")
    if conversion.precision == "int8":
        return int8.quantize(ready, found, chosen), notes
    form = OnnxMixable(ready, found, chosen, [_repeated(feed, conversion) for feed in mixed.trials(conversion)])
    choice = mixed.choose(form, mixed.budget_of(conversion), on_step=child.say)
    return int8.quantize(ready, found, chosen, kept=choice.names), [*notes, *choice.notes]


def prove(content: bytes, reference: nn.Module, feeds: Iterator[NDArray[Any]], batch: int | None) -> None:
    """Compare the float file `content` with the module on `feeds`, float32 (1, …); raises `ParityFailed`."""
    running = session(content)
    (taken,) = running.get_inputs()
    pairs = (
        # A file for a fixed batch is given one image several times.
        (
            proof.answers(reference, feed),
            [part[:1] for part in running.run(None, {taken.name: feed.repeat(batch or 1, 0)})],
        )
        for feed in feeds
    )
    proof.prove(
        pairs,
        precision="fp32",
        form="the float form of the file to be quantized",
        hint="this is a fault of the converter: take --precision fp32, and report it",
    )


def _feeds(conversion: Conversion) -> Iterator[NDArray[Any]]:
    return (_repeated(feed, conversion) for feed in conversion.calibration_feeds())


def _repeated(feed: NDArray[Any], conversion: Conversion) -> NDArray[Any]:
    return feed.repeat(conversion.batch or 1, 0)
