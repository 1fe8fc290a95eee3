"""A quantized file as one in which every operator computes alone, in float, on inputs of the file."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .aligned import Aligned, Step
from .flatbuffer import pack


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The file's bytes; it takes the float form's values of the tensors `taken`, indices of the quantized file's."""

    content: bytes
    taken: Sequence[int]


def cut(file: Aligned, steps: Sequence[Step]) -> Cut:
    """The operators behind `steps` that compute, each with outputs of its own, in the order of the steps."""
    from ai_edge_litert import schema_py_generated as schema

    graph = schema.SubGraphT()
    graph.name, graph.tensors, graph.operators, graph.outputs = b"alone", [], [], []
    maker = _Maker(file=file, graph=graph, buffers=[schema.BufferT()])
    for place in dict.fromkeys(step.place for step in steps if step.place is not None and step.computes):
        maker.add(place)
    graph.inputs = list(maker.taken.values())
    model = copy.copy(file.model)
    model.subgraphs, model.buffers = [graph], maker.buffers
    model.signatureDefs = model.metadata = model.metadataBuffer = None
    return Cut(content=pack(model), taken=list(maker.taken))


@dataclass(slots=True, kw_only=True)
class _Maker:
    """`taken` and `stored` are the tensors of the new graph by index of the file's."""

    file: Aligned
    graph: Any
    buffers: list[Any]
    taken: dict[int, int] = field(default_factory=dict)
    stored: dict[int, int] = field(default_factory=dict)

    def add(self, place: int) -> None:
        """The operator at a place of the file."""
        operator = copy.copy(self.file.graph.operators[place])
        operator.inputs = [self._input(index) for index in operator.inputs]
        operator.outputs = [self._tensor(index) for index in operator.outputs]
        self.graph.outputs.extend(operator.outputs)
        self.graph.operators.append(operator)

    def _input(self, index: int) -> int:
        if index < 0:
            return index
        known = self.taken if self.file.is_computed(index) else self.stored
        if index not in known:
            known[index] = self._tensor(index)
        return known[index]

    def _tensor(self, index: int) -> int:
        """A new tensor like one of the file, in float32 where that has scales or float16."""
        import numpy as np
        from ai_edge_litert import schema_py_generated as schema

        tensor, data = copy.copy(self.file.graph.tensors[index]), self.file.constant(index)
        tensor.name = f"{self.file.full_name(index)}/{len(self.graph.tensors)}".encode()
        tensor.quantization, tensor.buffer = None, 0
        if data is None or data.dtype == np.float32:
            tensor.type = schema.TensorType.FLOAT32
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            tensor.buffer = len(self.buffers)
            self.buffers.append(buffer)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1
