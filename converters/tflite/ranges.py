"""What values the tensors of a float graph take on real images: the smallest and largest of each (minmax)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ...models.errors import ConversionFailed
from .graph import Graph, Tensor
from .writer import write

if TYPE_CHECKING:
    from numpy.typing import NDArray

Ranges = dict[Tensor, tuple[float, float]]


def measure(graph: Graph, feeds: Iterable[NDArray[Any]]) -> Ranges:
    """Run the float graph on every feed, each in the file's own layout, and watch all activations.

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
    lows = np.full(len(watched), np.inf)
    highs = np.full(len(watched), -np.inf)
    for feed in feeds:
        interpreter.set_tensor(place[id(image)], feed)
        interpreter.invoke()
        for index, tensor in enumerate(watched):
            values = interpreter.get_tensor(place[id(tensor)])
            lows[index], highs[index] = min(lows[index], values.min()), max(highs[index], values.max())
    if not np.isfinite([lows, highs]).all():
        raise ConversionFailed("calibration saw no image, or a value that is not finite", "look at the images")
    return {tensor: (float(low), float(high)) for tensor, low, high in zip(watched, lows, highs, strict=True)}
