"""The way to an int8 file: a float model, proven and measured, then quantized for the CPU that will run it."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from .. import proof
from . import host, int8, ranges
from .engine import fused, session

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx
    from numpy.typing import NDArray
    from torch import nn

    from ..conversion import Conversion


def quantized(
    model: onnx.ModelProto, reference: nn.Module, conversion: Conversion
) -> tuple[onnx.ModelProto, list[str]]:
    """An int8 form of a float `model`, and what is to be said of it.

    On four calibration images the float model must first agree with `reference`, the module that the user trained:
    raises `ParityFailed`.
    """
    prove(model.SerializeToString(), reference, islice(conversion.calibration_feeds(), proof.COUNT), conversion.batch)
    ready = fused(model)
    assert conversion.calibration is not None  # `plan` gives one to what is calibrated
    found = ranges.measure(ready, _feeds(conversion), conversion.calibration.method)
    here = host.measured_host()
    chosen: host.Host = here if conversion.options["host"] == "auto" else conversion.options["host"]
    notes = [f"integers that suit {chosen}, which this machine was measured to be"] if chosen == here else []
    if here in host.UNSIGNED and chosen not in host.UNSIGNED:
        notes.append(f"made for {chosen}: this machine's integers saturate, so its figures are worse than that CPU's")
    return int8.quantize(ready, found, chosen), notes


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
    return (feed.repeat(conversion.batch or 1, 0) for feed in conversion.calibration_feeds())
