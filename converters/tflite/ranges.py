"""What values the tensors of a float graph take on real images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ...models.errors import ConversionFailed
from ..histogram import tally
from .graph import Graph, Tensor
from .writer import write

if TYPE_CHECKING:
    from numpy.typing import NDArray

Ranges = dict[Tensor, tuple[float, float]]


def measure(graph: Graph, feeds: Iterable[NDArray[Any]], method: str = "minmax") -> Ranges:
    """Run the float graph on every feed, each in the file's own layout, and watch all activations.

    `method`, one of `histogram.NAMES`, chooses the ranges.
    TFLite's builtin kernels run it, since a delegate would keep the inner tensors to itself. Raises
    `ConversionFailed` without a feed, and for a tensor that is not finite.
    """
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    watched = [tensor for tensor in graph.tensors() if tensor.data is None and tensor.dtype == "float32"]
    (image,), outputs = graph.inputs, [f"output{index}" for index in range(len(graph.outputs))]
    interpreter = Interpreter(
        model_content=write(graph, inputs=[image.name], outputs=outputs),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    place = {id(tensor): index for index, tensor in enumerate(graph.tensors())}
    seen = [tally(method) for _ in watched]
    for feed in feeds:
        interpreter.set_tensor(place[id(image)], feed)
        interpreter.invoke()
        for tensor, values in zip(watched, seen, strict=True):
            values.add(interpreter.get_tensor(place[id(tensor)]))
    bounds = [values.bounds for values in seen]
    if not np.isfinite(bounds).all():
        raise ConversionFailed("calibration saw no image, or a value that is not finite", "look at the images")
    return dict(zip(watched, bounds, strict=True))
