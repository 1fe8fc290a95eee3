"""Before a graph loses bits: proof that its float form computes what the module does.

A channel swap or a wrong axis can cost less than int8 itself does, or int8 weights alone, and the gate, which sees the
final file alone, would let it pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from ...models.errors import ParityFailed
from .. import parity
from .graph import Graph
from .writer import write

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

COUNT: Final = 4


def prove(graph: Graph, module: nn.Module, feeds: Iterable[NDArray[Any]], *, channels_last: bool) -> None:
    """Compare both on the first feeds, float32 (1, …) in the module's layout; raises `ParityFailed`."""
    import numpy as np
    import torch
    from ai_edge_litert.interpreter import Interpreter

    (image,), names = graph.inputs, [f"output{index}" for index in range(len(graph.outputs))]
    interpreter = Interpreter(model_content=write(graph, inputs=[image.name], outputs=names))
    interpreter.allocate_tensors()
    (taken,), given = interpreter.get_input_details(), interpreter.get_output_details()
    pairs = []
    for feed in islice(feeds, COUNT):
        laid_out = feed.transpose(0, 2, 3, 1) if channels_last and feed.ndim == 4 else feed
        interpreter.set_tensor(taken["index"], np.ascontiguousarray(laid_out))
        interpreter.invoke()
        with torch.inference_mode():
            wanted = module(torch.from_numpy(feed))
        pairs.append(
            (
                _flat([wanted] if isinstance(wanted, torch.Tensor) else wanted, channels_last=channels_last),
                _flat([interpreter.get_tensor(each["index"]) for each in given], channels_last=False),
            )
        )
    expected, actual = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    # Not judged by the first class: there may be no classes, and two that are as good as equal prove nothing.
    row = parity.compare([expected], [actual], inputs="samples", threshold=parity.THRESHOLDS["fp32"])
    if not row.passed:
        raise ParityFailed(
            f"the float graph to be quantized is off by a relative L2 of {row.relative_l2:.2e}, "
            f"cosine {parity.at_least(row.cosine)}",
            "this is a fault of the direct writer: try --via onnx2tf, and report it",
        )


def _flat(arrays: Iterable[Any], *, channels_last: bool) -> NDArray[Any]:
    """All outputs of one sample in a row: float32 (1, elements)."""
    import numpy as np

    turned = (a.transpose(0, 2, 3, 1) if channels_last and a.ndim == 4 else a for a in map(np.asarray, arrays))
    return np.concatenate([array.reshape(1, -1) for array in turned], axis=1)
