"""What makes a lowered graph smaller and changes nothing else: constants folded, activations fused, reshapes merged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .graph import Graph, Operator, Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WEIGHTED: Final = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
FUSING: Final = (*WEIGHTED, "ADD", "MUL", "SUB", "DIV", "AVERAGE_POOL_2D", "MAX_POOL_2D")
ACTIVATIONS: Final = ("RELU", "RELU6", "RELU_N1_TO_1")


def simplify(graph: Graph) -> Graph:
    """The same graph, changed in place."""
    _merge_reshapes(graph)
    _flatten_means(graph)
    _fold_affine(graph)
    _fuse_activations(graph)
    _share_constants(graph)
    graph.drop_unused()
    return graph


def separate_splits(graph: Graph) -> Graph:
    """A layer whose output is only split along its channels becomes a layer a part.

    It spares a copy (measured: 4 % of M5's time), and in int8 each part has a scale of its own.
    """
    producers, uses = graph.producers(), graph.uses()
    operators: list[Operator] = []
    gone: set[int] = set()
    for operator in graph.operators:
        if operator.kind not in ("SPLIT", "SPLIT_V"):
            continue
        source = operator.inputs[1 if operator.kind == "SPLIT" else 0]
        assert source is not None
        layer = producers.get(source)
        along_channels = operator.outputs[0].shape[:-1] == source.shape[:-1]
        if layer and along_channels and uses[source] == 1 and _is_divisible(layer):
            gone |= {id(layer), id(operator)}
            operators += _parts(layer, operator.outputs)
    if not operators:
        return graph
    by_output = {id(operator.output): operator for operator in operators}
    kept: list[Operator] = []
    for operator in graph.operators:
        if id(operator) not in gone:
            kept.append(operator)
        elif operator.kind.startswith("SPLIT"):
            kept += [by_output[id(output)] for output in operator.outputs]
    graph.operators = kept
    return graph


def _is_divisible(layer: Operator) -> bool:
    """Whether any of its output channels can be computed alone: not so where groups share input channels."""
    if layer.kind not in ("CONV_2D", "FULLY_CONNECTED") or not _has_constants(layer):
        return False
    source, weight = layer.inputs[:2]
    assert source is not None
    assert weight is not None
    return source.shape[-1] == weight.shape[-1]


def _has_constants(layer: Operator) -> bool:
    return all(tensor is not None and tensor.data is not None for tensor in layer.inputs[1:])


def _parts(layer: Operator, outputs: list[Tensor]) -> list[Operator]:
    parts, start = [], 0
    for output in outputs:
        end = start + output.shape[-1]
        constants = [
            Tensor(name=t.name, shape=t.data[start:end].shape, data=t.data[start:end].copy())
            for t in layer.inputs[1:]
            if t is not None and t.data is not None
        ]
        parts.append(
            Operator(
                kind=layer.kind,
                inputs=[layer.inputs[0], *constants],
                outputs=[output],
                options=dict(layer.options),
                source=layer.source,
                exact=layer.exact,
            )
        )
        start = end
    return parts


def _merge_reshapes(graph: Graph) -> None:
    producers = graph.producers()
    for operator in graph.operators:
        if operator.kind != "RESHAPE":
            continue
        source = operator.inputs[0]
        assert source is not None
        while source in producers and producers[source].kind == "RESHAPE":
            source = producers[source].inputs[0]
            assert source is not None
        operator.inputs[0] = source
        if source.shape == operator.output.shape and operator.output not in graph.outputs:
            graph.replace(operator.output, source)
    graph.drop_unused()


def _flatten_means(graph: Graph) -> None:
    """A mean that keeps its axes, and a reshape that drops them, are one mean."""
    producers, uses = graph.producers(), graph.uses()
    for operator in list(graph.operators):
        source = operator.inputs[0]
        mean = None if source is None else producers.get(source)
        if operator.kind != "RESHAPE" or mean is None or mean.kind != "MEAN" or uses[mean.output] > 1:
            continue
        axes = mean.inputs[1]
        assert axes is not None
        assert axes.data is not None
        left = [size for place, size in enumerate(mean.output.shape) if place not in axes.data]
        if mean.options["keep_dims"] and tuple(left) == operator.output.shape:
            mean.options["keep_dims"], mean.outputs = False, operator.outputs
            graph.operators.remove(operator)


def _fold_affine(graph: Graph) -> None:
    """A product with, or a sum of, one constant a channel goes into the layer before (Jacob et al., CVPR 2018)."""
    producers, uses = dict(graph.producers()), graph.uses()
    for operator in list(graph.operators):
        if operator.kind not in ("MUL", "ADD", "SUB"):
            continue
        source, constant = _operands(operator)
        if source is None or constant is None or constant.data is None or source not in producers:
            continue
        layer = producers[source]
        by_channel = constant.data.size == 1 or constant.shape[-1:] == (constant.data.size,) == source.shape[-1:]
        by_channel &= operator.output.shape == source.shape
        foldable = layer.kind in WEIGHTED and "activation" not in layer.options and _has_constants(layer)
        if not foldable or uses[source] > 1 or not by_channel:
            continue
        _fold_into(layer, operator.kind, constant.data.reshape(-1))
        # The layer gives the result itself from now on, under its own name.
        graph.replace(operator.output, source)
        uses[source] = uses[operator.output]
        graph.operators.remove(operator)


def _operands(operator: Operator) -> tuple[Tensor | None, Tensor | None]:
    """The constant one, if any, last, where the order does not matter."""
    first, second = operator.inputs
    swapped = operator.kind != "SUB" and first is not None and first.data is not None
    return (second, first) if swapped else (first, second)


def _fold_into(layer: Operator, kind: str, numbers: NDArray[Any]) -> None:
    import numpy as np

    weight, bias = layer.inputs[1], layer.inputs[2]
    assert weight is not None
    assert bias is not None
    assert weight.data is not None
    assert bias.data is not None
    wide = np.broadcast_to(numbers.astype(np.float64), bias.shape)
    if kind == "MUL":
        axis = -1 if layer.kind == "DEPTHWISE_CONV_2D" else 0
        spread = wide.reshape([-1 if place == axis % weight.data.ndim else 1 for place in range(weight.data.ndim)])
        layer.inputs[1] = _changed(weight, weight.data * spread)
        layer.inputs[2] = _changed(bias, bias.data * wide)
    else:
        layer.inputs[2] = _changed(bias, bias.data + (wide if kind == "ADD" else -wide))


def _changed(tensor: Tensor, data: NDArray[np.float64]) -> Tensor:
    import numpy as np

    return Tensor(name=tensor.name, shape=tensor.shape, data=data.astype(np.float32))


def _fuse_activations(graph: Graph) -> None:
    producers, uses = dict(graph.producers()), graph.uses()
    for operator in list(graph.operators):
        if operator.kind not in ACTIVATIONS:
            continue
        source = operator.inputs[0]
        assert source is not None
        before = producers.get(source)
        if before is None or before.kind not in FUSING or "activation" in before.options or uses[source] > 1:
            continue
        before.options["activation"] = operator.kind
        before.outputs = operator.outputs
        graph.operators.remove(operator)
        producers[operator.output] = before


def _share_constants(graph: Graph) -> None:
    """Equal constants become one."""
    known: dict[tuple[str, tuple[int, ...], bytes], Tensor] = {}
    for operator in graph.operators:
        for place, tensor in enumerate(operator.inputs):
            if tensor is not None and tensor.data is not None:
                key = (tensor.dtype, tensor.shape, tensor.data.tobytes())
                operator.inputs[place] = known.setdefault(key, tensor)
