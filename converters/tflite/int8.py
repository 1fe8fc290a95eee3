"""A float graph with ranges becomes an int8 graph: int8 weights and activations, int32 biases.

Operators without a good int8 kernel stay float between DEQUANTIZE and QUANTIZE: softmax, which XNNPACK has only in
float, normalisation, and what only they read. So do the sums that residual branches end in, since their errors add
up. The scheme is that of Jacob et al., CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal

from .graph import Graph, Operator, Scales, Tensor
from .ranges import Ranges
from .scales import SAME_SCALE, choose
from .simplify import WEIGHTED
from .weights import channel_axis, int8_weight

INTEGER_KINDS: Final = frozenset(
    {*WEIGHTED, *SAME_SCALE, "ADD", "BATCH_MATMUL", "LOGISTIC", "MEAN", "MUL", "RELU", "SUB"}
)
MOVING: Final = SAME_SCALE - {"AVERAGE_POOL_2D"}
STREAM_KINDS: Final = ("ADD", "DEPTHWISE_CONV_2D")
TAIL_KINDS: Final = frozenset({"ADD", "FULLY_CONNECTED", "MEAN", "MUL", "RESHAPE", "SUB"})
INT32_MAX: Final = 2**31 - 1
# Half of what int32 holds: the products are added to the bias.
BIAS_MAX: Final = 2**30

Edge = Literal["float", "int8", "uint8"]


def quantize(graph: Graph, ranges: Ranges, *, edge: Edge, kept: Collection[str] = ()) -> Graph:
    """A new graph whose inputs and outputs are `edge`; the old one may not be used any more.

    The operators whose first output is named in `kept` stay float, and so does what only moves their numbers.
    """
    scales = choose(graph, ranges)
    return _Quantizer(graph, scales, edge, integer_operators(graph, scales, edge=edge, kept=kept)).run()


def integer_operators(
    graph: Graph, scales: dict[Tensor, Scales], *, edge: Edge, kept: Collection[str] = ()
) -> set[int]:
    """The `id` of each operator that `quantize` would compute in int8."""
    integer = _integer_operators(graph, scales, kept) - _stream(graph)
    return integer - _tail(graph) if edge == "float" else integer


class _Quantizer:
    def __init__(self, graph: Graph, scales: dict[Tensor, Scales], edge: Edge, integer: set[int]) -> None:
        self.graph = graph
        self.edge = edge
        self.scales = scales
        self.integer = integer
        self.operators: list[Operator] = []
        self.as_int8: dict[Tensor, Tensor] = {}
        self.as_float: dict[Tensor, Tensor] = {}

    def run(self) -> Graph:
        inputs = [self._input(tensor, self.edge) for tensor in self.graph.inputs]
        for operator in self.graph.operators:
            if id(operator) in self.integer:
                self._integer(operator)
            else:
                self._float(operator)
        outputs = [self._output(tensor, self.edge) for tensor in self.graph.outputs]
        graph = Graph(inputs=inputs, outputs=outputs, operators=self.operators)
        graph.drop_unused()
        return graph

    def _input(self, tensor: Tensor, edge: Edge) -> Tensor:
        if edge == "float":
            self.as_float[tensor] = tensor
            return tensor
        if edge == "int8":
            self.as_int8[tensor] = self._integer_tensor(tensor)
            return self.as_int8[tensor]
        outside = self._unsigned(tensor)
        self.as_int8[tensor] = self._emit("QUANTIZE", outside, self._integer_tensor(tensor))
        return outside

    def _output(self, tensor: Tensor, edge: Edge) -> Tensor:
        if edge == "float":
            return self._float_of(tensor)
        inside = self._int8_of(tensor)
        return inside if edge == "int8" else self._emit("QUANTIZE", inside, self._unsigned(tensor))

    def _unsigned(self, tensor: Tensor) -> Tensor:
        scales = self.scales[tensor]
        moved = Scales(scale=scales.scale, zero_point=scales.zero_point + 128)
        return Tensor(name=tensor.name, shape=tensor.shape, dtype="uint8", scales=moved)

    def _integer_tensor(self, tensor: Tensor) -> Tensor:
        return Tensor(name=tensor.name, shape=tensor.shape, dtype="int8", scales=self.scales[tensor])

    def _emit(self, kind: str, source: Tensor, output: Tensor) -> Tensor:
        self.operators.append(Operator(kind=kind, inputs=[source], outputs=[output]))
        return output

    def _int8_of(self, tensor: Tensor) -> Tensor:
        """The int8 form of an activation, or of a constant that an integer operator takes."""
        if tensor not in self.as_int8:
            if tensor.data is not None:
                self.as_int8[tensor] = _constant(tensor)
            else:
                self.as_int8[tensor] = self._emit("QUANTIZE", self.as_float[tensor], self._integer_tensor(tensor))
        return self.as_int8[tensor]

    def _float_of(self, tensor: Tensor) -> Tensor:
        if tensor.data is not None or tensor.dtype != "float32":
            return tensor
        if tensor not in self.as_float:
            floating = Tensor(name=tensor.name, shape=tensor.shape)
            self.as_float[tensor] = self._emit("DEQUANTIZE", self.as_int8[tensor], floating)
        return self.as_float[tensor]

    def _float(self, operator: Operator) -> None:
        operator.inputs = [None if tensor is None else self._float_of(tensor) for tensor in operator.inputs]
        self.as_float.update({tensor: tensor for tensor in operator.outputs})
        self.operators.append(operator)

    def _integer(self, operator: Operator) -> None:
        outputs = [self._integer_tensor(tensor) for tensor in operator.outputs]
        inputs = self._inputs(operator, outputs[0])
        self.as_int8.update(zip(operator.outputs, outputs, strict=True))
        # XNNPACK has no int8 RELU; a change of scale whose zero point is the lowest step cuts off the same.
        lowest = operator.kind == "RELU" and int(outputs[0].scales.zero_point[0]) == -128  # type: ignore[union-attr]
        operator.kind = "QUANTIZE" if lowest else operator.kind
        operator.inputs, operator.outputs = inputs, outputs
        self.operators.append(operator)

    def _inputs(self, operator: Operator, output: Tensor) -> list[Tensor | None]:
        floats = [tensor if tensor is not None and tensor.dtype == "float32" else None for tensor in operator.inputs]
        if operator.kind in WEIGHTED:
            assert floats[0] is not None
            return self._weighted(operator, self._int8_of(floats[0]))
        assert output.scales is not None
        inputs = list(operator.inputs)
        for place, tensor in enumerate(floats):
            if tensor is not None and tensor.data is not None and operator.kind in SAME_SCALE:
                inputs[place] = _constant_on(tensor, output.scales)
            elif tensor is not None:
                inputs[place] = self._int8_of(tensor)
                if operator.kind in SAME_SCALE:
                    inputs[place] = self._on_scale(self._int8_of(tensor), output.scales)
        if operator.kind == "BATCH_MATMUL":
            assert inputs[1] is not None
            inputs[1] = self._on_scale(inputs[1], _centred(inputs[1]))
        return inputs

    def _on_scale(self, tensor: Tensor, scales: Scales) -> Tensor:
        """What is not on a scale that an operator demands, because its own is fixed, is brought there."""
        if _equal(tensor.scales, scales):
            return tensor
        moved = Tensor(name=tensor.name, shape=tensor.shape, dtype="int8", scales=scales)
        return self._emit("QUANTIZE", tensor, moved)

    def _weighted(self, operator: Operator, x: Tensor) -> list[Tensor | None]:
        import numpy as np

        _, weight, bias = operator.inputs
        assert x.scales is not None
        assert weight is not None
        assert bias is not None
        assert bias.data is not None
        step = float(x.scales.scale[0])
        small = int8_weight(weight, channel_axis(operator), least=np.abs(bias.data) / (step * BIAS_MAX))
        assert small.scales is not None
        scale = small.scales.scale.astype(np.float64) * step
        steps = np.round(bias.data / scale).clip(-INT32_MAX, INT32_MAX).astype(np.int32)
        zeros = np.zeros(len(scale), np.int64)
        scales = Scales(scale=scale.astype(np.float32), zero_point=zeros)
        return [x, small, Tensor(name=bias.name, shape=bias.shape, dtype="int32", data=steps, scales=scales)]


def _equal(one: Scales | None, other: Scales | None) -> bool:
    assert one is not None
    assert other is not None
    return bool((one.scale == other.scale).all() and (one.zero_point == other.zero_point).all())


def _centred(tensor: Tensor) -> Scales:
    """The tensor's scale, its zero point moved to 0 without losing an end."""
    import numpy as np

    assert tensor.scales is not None
    point = int(tensor.scales.zero_point[0])
    stretch = max(128 + point, 127 - point) / 127 if point else 1.0
    return Scales(scale=(tensor.scales.scale * stretch).astype(np.float32), zero_point=np.zeros(1, np.int64))


def _constant_on(tensor: Tensor, scales: Scales) -> Tensor:
    """A constant on the scale of the tensor that it becomes part of, or is compared with."""
    import numpy as np

    assert tensor.data is not None
    steps = np.round(tensor.data.astype(np.float64) / float(scales.scale[0])) + int(scales.zero_point[0])
    data = np.ascontiguousarray(steps.clip(-128, 127).astype(np.int8)).reshape(tensor.shape)
    return Tensor(name=tensor.name, shape=tensor.shape, dtype="int8", data=data, scales=scales)


def _constant(tensor: Tensor) -> Tensor:
    """A constant operand of a sum or a product, on a scale of its own."""
    import numpy as np

    assert tensor.data is not None
    flat = int8_weight(Tensor(name=tensor.name, shape=(1, tensor.data.size), data=tensor.data.reshape(1, -1)), 0)
    assert flat.data is not None
    return Tensor(
        name=tensor.name,
        shape=tensor.shape,
        dtype="int8",
        data=np.ascontiguousarray(flat.data.reshape(tensor.shape)),
        scales=flat.scales,
    )


def _integer_operators(graph: Graph, scales: dict[Tensor, Scales], kept: Collection[str]) -> set[int]:
    """Those with an int8 kernel that are worth it; the ones that only move numbers follow the one that they read."""
    readers: dict[Tensor, list[Operator]] = {}
    for operator in graph.operators:
        for tensor in operator.inputs:
            if tensor is not None:
                readers.setdefault(tensor, []).append(operator)
    integer: set[int] = set()
    made_by_float: set[Tensor] = set()
    for operator in graph.operators:
        sources = [tensor for tensor in operator.inputs if tensor in scales]
        follows = operator.kind in MOVING and bool(sources) and made_by_float.issuperset(sources)
        floating = operator.kind not in INTEGER_KINDS or operator.exact or operator.outputs[0].name in kept
        if floating or follows or _only_for_softmax(operator, readers):
            made_by_float.update(operator.outputs)
        else:
            integer.add(id(operator))
    return integer


def _tail(graph: Graph) -> set[int]:
    """What is computed of one vector an image, up to the outputs: the pooling and the classifier.

    Hardly any arithmetic is there, and steps of the logits decide which class comes first.
    """
    producers = graph.producers()
    pending, found = list(graph.outputs), set[int]()
    while pending:
        operator = producers.get(pending.pop())
        vector = operator is not None and len(operator.outputs[0].shape) == 2
        if operator and vector and operator.kind in TAIL_KINDS and id(operator) not in found:
            found.add(id(operator))
            pending += [tensor for tensor in operator.inputs if tensor is not None]
    return found


def _only_for_softmax(operator: Operator, readers: dict[Tensor, list[Operator]]) -> bool:
    """A bias added to attention scores: in float it costs one rounding less, and no operator more."""
    if operator.kind not in ("ADD", "MUL", "RESHAPE", "TRANSPOSE"):
        return False
    after = [reader for output in operator.outputs for reader in readers.get(output, [])]
    return bool(after) and all(reader.kind == "SOFTMAX" or _only_for_softmax(reader, readers) for reader in after)


def _stream(graph: Graph) -> set[int]:
    """The sums of two activations, and what else makes the tensors that residual branches are added to.

    Every block rounds what it adds to once, and all later blocks see the sum of those errors: on CIFAR-10 this was
    7 of the 32 dB that M0 has to noise, and its int8 form is no slower with these operators in float.
    """
    sums = [
        op for op in graph.operators if op.kind == "ADD" and all(t is not None and t.data is None for t in op.inputs)
    ]
    uses = graph.uses()
    added = {tensor for operator in sums for tensor in operator.inputs if tensor is not None and uses[tensor] > 1}
    makers = [op for op in graph.operators if op.kind in STREAM_KINDS and added.intersection(op.outputs)]
    return {id(operator) for operator in (*sums, *makers)}
