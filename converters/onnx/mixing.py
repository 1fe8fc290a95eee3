"""What an ONNX graph answers with any of its operators in int8 and the others in float."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import inspection, int8
from .engine import session
from .host import Host, is_exact_for
from .ranges import Ranges

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray


class OnnxMixable:
    """A graph that `engine.fused` gave, quantized once: what is to be float reads what is not rounded.

    Operators that only move numbers are what the one is that they read from.
    """

    def __init__(self, model: onnx.ModelProto, ranges: Ranges, host: Host, feeds: Sequence[NDArray[Any]]) -> None:
        """`feeds` are inputs as the graph takes them, all with its fixed batch, or of one image."""
        self._feeds = feeds
        self._host: Host = host
        self._float = model
        self._quantized = int8.quantize(model, ranges, host)
        self._rounded = _restore_relu(self._quantized.graph, model.graph)
        self._constants = _restore_constants(self._quantized.graph, model.graph)
        everything = inspection.macs(model)
        kept = int8.always_float(model)
        self._macs = {
            node.name: everything.get(node.name, 0)
            for node in model.graph.node
            if node.op_type in int8.COMPUTING and node.name not in kept
        }
        self._float_macs = sum(everything.values()) - sum(self._macs.values())

    @property
    def macs(self) -> Mapping[str, int]:
        """The operators that int8 takes, by the name of their node."""
        return self._macs

    @property
    def float_macs(self) -> int:
        """Those of the depthwise layers that stay float, mostly."""
        return self._float_macs

    def answers(self, integer: Collection[str]) -> NDArray[Any]:
        """The first output of every feed's first image, by ONNX Runtime: (n, …)."""
        import numpy as np

        mixed = self._with(integer)
        # Where integers saturate, what suits the saturation would be chosen.
        running = session(mixed.SerializeToString(), literal=not is_exact_for(self._host))
        (taken,), first = running.get_inputs(), running.get_outputs()[0].name
        return np.concatenate([running.run([first], {taken.name: feed})[0][:1] for feed in self._feeds])

    def _with(self, integer: Collection[str]) -> onnx.ModelProto:
        import onnx

        mixed = onnx.ModelProto()
        mixed.CopyFrom(self._quantized)
        floats = {node.name: node.input for node in self._float.graph.node}
        rounds = self._rounding(integer)
        for node in mixed.graph.node:
            if node.op_type not in int8.ROUNDING and node.name not in integer:
                node.input[:] = [self._read(name, rounds) for name in floats[node.name]]
        sources = {rounded: name for name, rounded in self._rounded.items()}
        for output in mixed.graph.output:
            if output.name not in rounds:
                output.name = sources.get(output.name, output.name)
        return mixed

    def _rounding(self, integer: Collection[str]) -> set[str]:
        """The float graph's tensors that are rounded where they are made: a product gives float as readily."""
        inside, made, found = set(integer), dict[str, str](), set[str]()
        for node in self._float.graph.node:
            if node.op_type in int8.MOVING and made.get(node.input[0]) in inside:
                inside.add(node.name)
            made.update(dict.fromkeys(node.output, node.name))
        taken = {
            name
            for node in self._float.graph.node
            if node.name in integer or node.op_type in int8.MOVING
            for name in node.input
        }
        for node in self._float.graph.node:
            if node.name in inside:
                found.update(name for name in node.output if node.op_type not in int8.PRODUCTS or name in taken)
        return found

    def _read(self, name: str, rounds: Collection[str]) -> str:
        found = self._rounded if name in rounds else self._constants
        return found.get(name, name)


def _restore_constants(graph: onnx.GraphProto, floating: onnx.GraphProto) -> dict[str, str]:
    """Put back the float constants; returns their names here by those in the float graph, which may be taken."""
    import onnx

    names = {tensor.name: f"{tensor.name}/float" for tensor in floating.initializer}
    for tensor in floating.initializer:
        again = onnx.TensorProto()
        again.CopyFrom(tensor)
        again.name = names[tensor.name]
        graph.initializer.append(again)
    return names


def _restore_relu(graph: onnx.GraphProto, floating: onnx.GraphProto) -> dict[str, str]:
    """Put back each ReLU that became integers cut off at zero; returns what is read of each tensor that is rounded."""
    import onnx

    there = {node.name for node in graph.node}
    missing = {node.output[0]: node for node in floating.node if node.op_type == "Relu" and node.name not in there}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        made = onnx.NodeProto()
        made.CopyFrom(node)
        nodes.append(made)
        if relu := missing.get(made.output[0]):
            made.output[0] = relu.input[0]
            nodes.append(relu)
    del graph.node[:]
    graph.node.extend(nodes)
    quantizing = {node.output[0]: node.input[0] for node in nodes if node.op_type == "QuantizeLinear"}
    behind = [node for node in nodes if node.op_type == "DequantizeLinear" and node.input[0] in quantizing]
    return {quantizing[node.input[0]]: node.output[0] for node in behind}
