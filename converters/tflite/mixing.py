"""What a TFLite graph answers with any of its operators in int8 and the others in float."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import inspection, int8
from .graph import Graph
from .ranges import Ranges
from .scales import choose
from .writer import write

if TYPE_CHECKING:
    from numpy.typing import NDArray


class TfliteMixable:
    """A float graph, quantized anew for each answer; operators that only move numbers follow what they read."""

    def __init__(self, graph: Graph, ranges: Ranges, edge: int8.Edge, feeds: Sequence[NDArray[Any]]) -> None:
        """`feeds` are float inputs in the file's layout, each with its fixed batch, or of one image."""
        # Quantizing uses the graph up.
        self._graph = graph.copy()
        self._ranges = ranges
        self._feeds = feeds
        integer = int8.integer_operators(graph, choose(graph, ranges), edge=edge)
        multiplying = [operator for operator in graph.operators if operator.kind in inspection.LAYERS]
        known = dict(zip(map(id, multiplying), inspection.macs(_written(graph)), strict=True))
        self._macs = {
            operator.outputs[0].name: known.get(id(operator), 0)
            for operator in graph.operators
            if id(operator) in integer and operator.kind not in int8.MOVING
        }
        self._float_macs = sum(known.values()) - sum(self._macs.values())

    @property
    def macs(self) -> Mapping[str, int]:
        """The operators that int8 takes, by the name of their first output."""
        return self._macs

    @property
    def float_macs(self) -> int:
        """Those of the depthwise layers that stay float, mostly."""
        return self._float_macs

    def answers(self, integer: Collection[str]) -> NDArray[Any]:
        """The first output of every feed's first image, by LiteRT with XNNPACK: (n, …)."""
        import numpy as np
        from ai_edge_litert.interpreter import Interpreter

        graph = self._graph.copy()
        if integer:
            graph = int8.quantize(graph, self._ranges, edge="float", kept=self._macs.keys() - set(integer))
        interpreter = Interpreter(model_content=_written(graph), num_threads=1)
        interpreter.allocate_tensors()
        (taken,), given = interpreter.get_input_details(), interpreter.get_output_details()[0]
        answers = []
        for feed in self._feeds:
            interpreter.set_tensor(taken["index"], feed)
            interpreter.invoke()
            answers.append(interpreter.get_tensor(given["index"])[:1])
        return np.concatenate(answers)


def _written(graph: Graph) -> bytes:
    names = [tensor.name for tensor in graph.inputs]
    return write(graph, inputs=names, outputs=[f"output{index}" for index in range(len(graph.outputs))])
