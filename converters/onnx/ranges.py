"""How large each tensor of an ONNX graph becomes on real images: what its integers are scaled by."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ...models.errors import ConversionFailed
from ..histogram import Extremes, tally

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

Ranges = dict[str, tuple[float, float]]


def measure(model: onnx.ModelProto, feeds: Iterable[NDArray[Any]], method: str = "minmax") -> Ranges:
    """Run a float model with one input on every feed, and watch all float32 tensors whose type the graph tells.

    `method` is one of `histogram.NAMES`. One feed's tensors are in memory at a time, however many feeds there are.
    Raises `ConversionFailed` without a feed, and for a value that is not finite.
    """
    from .engine import session

    running = session(_open(model))
    (taken,), outputs = running.get_inputs(), [output.name for output in running.get_outputs()]
    seen: dict[str, Extremes] = {name: tally(method) for name in (taken.name, *outputs)}
    for feed in feeds:
        values = running.run(outputs, {taken.name: feed})
        for name, array in zip(seen, (feed, *values), strict=True):
            seen[name].add(array)
    found = {name: each.bounds for name, each in seen.items()}
    if not all(math.isfinite(bound) for bounds in found.values() for bound in bounds):
        raise ConversionFailed("calibration saw no image, or a value that is not finite", "look at the images")
    return found


def _open(model: onnx.ModelProto) -> bytes:
    """The model with every float32 tensor as an output."""
    import onnx

    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    made = {name for node in model.graph.node for name in node.output}
    given = {value.name for value in model.graph.output}
    opened.graph.output.extend(
        value
        for value in model.graph.value_info
        if value.name in made - given and value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    )
    content: bytes = opened.SerializeToString()
    return content
