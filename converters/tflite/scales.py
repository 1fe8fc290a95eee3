"""Which scale each activation gets in int8: from its range, and from what TFLite's kernels demand.

The demands are those of the TFLite 8-bit quantization specification: some operators give out what they take on the
same scale, a sigmoid and a softmax have a fixed one, and zero is always a step of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
# What is narrower is taken for a tensor of zeros: steps so small would leave the range of the kernels' multipliers.
LEAST_WIDTH: Final = 1e-6
# What is lower is a mask, or what a maximum is padded with, which stay in float.
NO_NUMBER: Final = -1e29


def choose(graph: Graph, ranges: Ranges) -> dict[Tensor, Scales]:
    """One scale an activation: the same for those that have to share one, whose ranges are joined."""
    groups = _groups(graph, ranges)
    symmetric = {groups[t] for t in _right_operands(graph) if t in groups}
    fixed = {op.output: FIXED[op.kind] for op in graph.operators if op.kind in FIXED}
    # A softmax is computed in float: as a right matrix it can have the scale that is wanted there.
    for operator in graph.operators:
        if operator.kind == "SOFTMAX" and groups.get(operator.output) in symmetric:
            fixed.pop(operator.output)
    joined: dict[Tensor, tuple[float, float]] = {}
    for tensor, (least, most) in (*ranges.items(), *_of_constants(graph)):
        root = groups.get(tensor, tensor)
        low, high = joined.get(root, (0.0, 0.0))
        joined[root] = (min(low, 0.0 if least < NO_NUMBER else least), max(high, most))
    made = {root: _symmetric(*pair) if root in symmetric else _affine(*pair) for root, pair in joined.items()}
    return {
        tensor: _scales(*fixed[tensor]) if tensor in fixed else _scales(*made[root]) for tensor, root in groups.items()
    }


def _right_operands(graph: Graph) -> Iterable[Tensor]:
    """XNNPACK of LiteRT 2.1 computes products wrongly unless the right matrix has its zero point at 0."""
    return [op.inputs[1] for op in graph.operators if op.kind == "BATCH_MATMUL" and op.inputs[1] is not None]


def _of_constants(graph: Graph) -> Iterator[tuple[Tensor, tuple[float, float]]]:
    """The ranges of constants that become part of a tensor, whose scale has to hold them."""
    for operator in graph.operators:
        if operator.kind == "CONCATENATION":
            for tensor in operator.inputs:
                if tensor is not None and tensor.data is not None:
                    yield operator.output, (float(tensor.data.min()), float(tensor.data.max()))


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
    scale = _width(high - low) / 255
    return scale, round(min(max(-128 - low / scale, -128), 127))


def _symmetric(low: float, high: float) -> tuple[float, int]:
    return _width(max(-low, high)) / 127, 0


def _width(width: float) -> float:
    return width if width >= LEAST_WIDTH else 1.0


def _scales(scale: float, zero_point: int) -> Scales:
    import numpy as np

    return Scales(scale=np.asarray([scale], np.float32), zero_point=np.asarray([zero_point], np.int64))
