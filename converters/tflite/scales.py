"""Which scale each activation gets in int8: from its range, and from what TFLite's kernels demand.

The demands are those of the TFLite 8-bit quantization specification: some operators give out what they take on the
same scale, a sigmoid and a softmax have a fixed one, and zero is always a step of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .graph import Graph, Operator, Scales, Tensor
from .ranges import Ranges

# Operators whose output has the scale of their (first activation) input.
SAME_SCALE: Final = frozenset(
    {
        "AVERAGE_POOL_2D", "BROADCAST_TO", "CONCATENATION", "MAXIMUM", "MAX_POOL_2D", "MINIMUM", "PAD", "RESHAPE",
        "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "SLICE", "SPLIT", "SPLIT_V", "STRIDED_SLICE", "TRANSPOSE",
    }
)  # fmt: skip
FIXED: Final = {"LOGISTIC": (1 / 256, -128), "SOFTMAX": (1 / 256, -128), "TANH": (1 / 128, 0)}
LEAST_WIDTH: Final = 1e-6


def choose(graph: Graph, ranges: Ranges) -> dict[Tensor, Scales]:
    """One scale an activation: the same for those that have to share one, whose ranges are joined."""
    groups = _groups(graph, ranges)
    symmetric = {groups[t] for t in _right_operands(graph) if t in groups}
    fixed = {op.output: FIXED[op.kind] for op in graph.operators if op.kind in FIXED}
    joined: dict[Tensor, tuple[float, float]] = {}
    for tensor, root in groups.items():
        low, high = joined.get(root, (0.0, 0.0))
        joined[root] = (min(low, ranges[tensor][0]), max(high, ranges[tensor][1]))
    made = {root: _symmetric(*pair) if root in symmetric else _affine(*pair) for root, pair in joined.items()}
    return {
        tensor: _scales(*fixed[tensor]) if tensor in fixed else _scales(*made[root]) for tensor, root in groups.items()
    }


def _right_operands(graph: Graph) -> Iterable[Tensor]:
    """XNNPACK of LiteRT 2.1 computes products wrongly unless the right matrix has its zero point at 0."""
    return [op.inputs[1] for op in graph.operators if op.kind == "BATCH_MATMUL" and op.inputs[1] is not None]


def _groups(graph: Graph, ranges: Ranges) -> dict[Tensor, Tensor]:
    """The representative of each tensor's group."""
    parent = {tensor: tensor for tensor in ranges}

    def root(tensor: Tensor) -> Tensor:
        while parent[tensor] is not tensor:
            tensor = parent[tensor]
        return tensor

    made_by = {tensor: op for op in graph.operators for tensor in op.outputs}
    for operator in graph.operators:
        if operator.kind not in SAME_SCALE:
            continue
        shared = [t for t in (*operator.inputs, *operator.outputs) if t in parent and not _is_fixed(made_by.get(t))]
        for other in shared[1:]:
            parent[root(other)] = root(shared[0])
    return {tensor: root(tensor) for tensor in parent}


def _is_fixed(operator: Operator | None) -> bool:
    return operator is not None and operator.kind in FIXED


def _affine(low: float, high: float) -> tuple[float, int]:
    """256 steps from `low` to `high`, both moved so that zero is one of them."""
    scale = max(high - low, LEAST_WIDTH) / 255
    return scale, round(min(max(-128 - low / scale, -128), 127))


def _symmetric(low: float, high: float) -> tuple[float, int]:
    return max(-low, high, LEAST_WIDTH) / 127, 0


def _scales(scale: float, zero_point: int) -> Scales:
    import numpy as np

    return Scales(scale=np.asarray([scale], np.float32), zero_point=np.asarray([zero_point], np.int64))
