"""What each operator of a quantized ONNX file loses: rounding is written out there, so ONNX Runtime does as it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ...models.errors import BadArtifact
from .. import tensors
from ..loss_marks import of_bias
from ..losses import Factor, Grid, Operator, Run, Values
from ..pairs import Node, Pairs, Part
from .engine import session
from .inspection import FACTORS, inspect

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from ..artifact import TensorRecord

THERE, BACK = "QuantizeLinear", "DequantizeLinear"
MOVING: Final = ("Concat", "Reshape", "Split", "Squeeze", "Transpose", "Unsqueeze")
ALONE: Final = "/alone"
# What the quantizer calls an output of the graph before it is rounded.
BEFORE: Final = "_QuantizeLinear_Input"


def read(path: Path) -> onnx.ModelProto:
    """The file, with its weights; raises `BadArtifact`."""
    import onnx

    inspect(path)
    model: onnx.ModelProto = onnx.load(path)
    return model


class OnnxProbe:
    """A quantized model and its float form, whose tensors have the same names."""

    def __init__(
        self,
        written: onnx.ModelProto,
        floating: onnx.ModelProto,
        inputs: Sequence[TensorRecord],
        given: Sequence[TensorRecord],
    ) -> None:
        """Raises `BadArtifact` where ONNX Runtime cannot open the file."""
        self.notes: Sequence[str] = ()
        (self._taken,), self._given = inputs, given
        graph = _Graph(written)
        known = {name for node in floating.graph.node for name in node.output} | {self._taken.name}
        parts = graph.pairs.parts([value.name for value in written.graph.output])
        kept = [part for part in parts if _meant(part) in known and graph.sources(part) <= known]
        self.left_out = [part.output for part in parts if part not in kept]
        weights = {tensor.name: tensor for tensor in floating.graph.initializer}
        self.operators = [_operator(graph, part, weights) for part in kept]
        self._parts = kept
        self._written = written
        self._meant = _opened(floating, list({_meant(part) for part in kept} | set().union(*map(graph.sources, kept))))
        self._alone = _opened(graph.cut(kept, floating), [f"{part.output}{ALONE}{i}" for i, part in enumerate(kept)])

    @cached_property
    def _found(self) -> _Opened:
        return _opened(self._written, [part.result for part in self._parts])

    @cached_property
    def _whole(self) -> _Opened:
        return _opened(self._written, [record.name for record in self._given])

    def run(self, feed: NDArray[Any]) -> Run:
        """See `losses.Probe`."""
        image = self._image(feed)
        found, outputs = self._found.run(image), self._whole.run(image)
        return Run(
            values=[
                replace(values, found=found[part.result])
                for part, values in zip(self._parts, self.alone(feed), strict=True)
            ],
            outputs=[tensors.to_model(record, outputs[record.name][:1]) for record in self._given],
        )

    def alone(self, feed: NDArray[Any]) -> list[Values]:
        """See `losses.Probe`."""
        image = self._image(feed)
        meant = {**self._meant.run(image), **image}
        alone = self._alone.run(meant)
        return [
            Values(meant=meant[_meant(part)], isolated=alone[f"{part.output}{ALONE}{place}"])
            for place, part in enumerate(self._parts)
        ]

    def _image(self, feed: NDArray[Any]) -> dict[str, NDArray[Any]]:
        return {self._taken.name: tensors.to_file(self._taken, feed.repeat(self._taken.shape[0] or 1, axis=0))}


class _Opened:
    """A session that gives the named tensors."""

    def __init__(self, model: onnx.ModelProto, names: Sequence[str]) -> None:
        import onnx

        opened = onnx.ModelProto()
        opened.CopyFrom(model)
        given = {value.name for value in (*opened.graph.output, *opened.graph.input)}
        self._names = list(dict.fromkeys(name for name in names if name not in {v.name for v in opened.graph.input}))
        opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in self._names if name not in given)
        self._session = session(opened.SerializeToString(), literal=True)
        self._inputs = [value.name for value in self._session.get_inputs()]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        answers = self._session.run(self._names, {name: feeds[name] for name in self._inputs})
        return dict(zip(self._names, answers, strict=True))


def _opened(model: onnx.ModelProto, names: Sequence[str]) -> _Opened:
    """Raises `BadArtifact` where ONNX Runtime cannot."""
    try:
        return _Opened(model, names)
    except Exception as error:
        # ONNX Runtime's own errors have no common class.
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise BadArtifact(f"ONNX Runtime does not open the file: {reason}", "convert again") from error


class _Graph:
    """A quantized graph with its pairs, and which of its values are constants."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self.constants = set(self.initializers) | {""}
        for node in model.graph.node:
            if self.constants.issuperset(node.input):
                self.constants.update(node.output)
        self.makers = {name: node for node in model.graph.node for name in node.output}
        integers = {name for name in self.constants if name in self.makers and self.makers[name].op_type == BACK}
        nodes = [self._node(node) for node in model.graph.node]
        self.pairs = Pairs(nodes, there=THERE, back=BACK, integers=frozenset(integers))

    def _node(self, node: onnx.NodeProto) -> Node:
        inputs = [name for name in node.input if name not in self.constants]
        places = FACTORS.get(node.op_type)
        factors = [node.input[place] for place in places] if places else inputs
        return Node(kind=node.op_type, inputs=inputs, factors=factors, outputs=list(node.output))

    def sources(self, part: Part) -> set[str]:
        return {self.pairs.source(name) for name in self.pairs.nodes[part.node].inputs}

    def grid(self, part: Part) -> Grid | None:
        if part.rounding is None:
            return None
        scale, zero = (self.array(name) for name in self.model.graph.node[part.rounding].input[1:])
        return _grid(scale, zero)

    def array(self, name: str) -> NDArray[Any]:
        """A constant of the file."""
        import onnx

        found: NDArray[Any] = onnx.numpy_helper.to_array(self.initializers[name])
        return found

    def cut(self, parts: Sequence[Part], floating: onnx.ModelProto) -> onnx.ModelProto:
        """A model in which every operator takes inputs of the model, and has its own rounding behind it.

        They are values of the `floating` one, of its types: a place in a table is no float.
        """
        import onnx

        cut = onnx.ModelProto()
        cut.CopyFrom(self.model)
        nodes = self.model.graph.node
        stored = [node for node in nodes if self.constants.issuperset(node.output)]
        del cut.graph.node[:], cut.graph.input[:], cut.graph.output[:], cut.graph.value_info[:]
        cut.graph.node.extend(stored)
        for place, part in enumerate(parts):
            self._add_alone(cut.graph, part, f"{part.output}{ALONE}{place}")
        known = (*floating.graph.value_info, *floating.graph.input, *floating.graph.output)
        types = {value.name: value.type.tensor_type.elem_type for value in known}
        for name in sorted(set().union(*map(self.sources, parts))):
            dtype = types.get(name, onnx.TensorProto.FLOAT)
            cut.graph.input.append(onnx.helper.make_tensor_value_info(name, dtype, None))
        return cut

    def _add_alone(self, graph: onnx.GraphProto, part: Part, name: str) -> None:
        """The operator as `name`, or as what is then rounded to that."""
        import onnx

        nodes = self.model.graph.node
        raw = name if part.rounding is None else f"{name}/raw"
        if part.rounding != part.node:
            node = onnx.NodeProto()
            node.CopyFrom(nodes[part.node])
            node.name = ""
            node.input[:] = [self.pairs.source(each) for each in node.input]
            node.output[:] = [raw if each == part.output else f"{name}/{i}" for i, each in enumerate(node.output)]
            graph.node.append(node)
        else:
            raw = part.output
        if part.rounding is None:
            return
        rounding, back = nodes[part.rounding], self.makers[part.result]
        for node, source, result in ((rounding, raw, f"{name}/integers"), (back, f"{name}/integers", name)):
            copied = onnx.NodeProto()
            copied.CopyFrom(node)
            copied.name, copied.input[0], copied.output[0] = "", source, result
            graph.node.append(copied)


def _meant(part: Part) -> str:
    """What the result is called in the float form."""
    return part.output.removesuffix(BEFORE)


def _grid(scale: NDArray[Any], zero: NDArray[Any]) -> Grid:
    import numpy as np

    limits, step, point = np.iinfo(zero.dtype), float(scale), int(zero)
    return Grid(dtype=zero.dtype.name, low=(limits.min - point) * step, high=(limits.max - point) * step, step=step)


def _operator(graph: _Graph, part: Part, weights: Mapping[str, onnx.TensorProto]) -> Operator:
    node = graph.model.graph.node[part.node]
    grid = graph.grid(part)
    arithmetic = "float32"
    if grid is not None:
        arithmetic = grid.dtype
    elif part.integer and node.op_type in FACTORS:
        arithmetic = "uint8"
    return Operator(
        name=_meant(part),
        kind=node.op_type,
        arithmetic=arithmetic,
        grid=grid,
        factor=_factor(graph, node, weights),
        moves=node.op_type in MOVING and part.integer and _same_grid(graph, node, grid),
        remark=_of_bias(graph, node) if node.op_type in FACTORS else "",
    )


def _of_bias(graph: _Graph, node: onnx.NodeProto) -> str:
    """What to say of a bias on another scale than its products, which the kernels take it to have."""
    made = [graph.makers.get(name) for name in node.input[:3]]
    scales = [graph.array(back.input[1]) for back in made if back is not None and back.op_type == BACK]
    return of_bias(*scales) if len(scales) == len(node.input[:3]) == 3 else ""


def _same_grid(graph: _Graph, node: onnx.NodeProto, grid: Grid | None) -> bool:
    """Whether all that is taken comes on the grid that is given."""
    made = [graph.makers[name] for name in node.input if name not in graph.constants]
    return all(
        _grid(graph.array(back.input[1]), graph.array(back.input[2])) == grid for back in made if back.op_type == BACK
    )


def _factor(graph: _Graph, node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]) -> Factor | None:
    """The weights of a layer that the file stores as integers."""
    import onnx

    for place in FACTORS.get(node.op_type, ()):
        back = graph.makers.get(node.input[place])
        if back is None or back.op_type != BACK or back.input[0] not in graph.initializers:
            continue
        name = back.input[0].removesuffix("_quantized")
        if name not in weights:
            continue
        integers, scale = graph.array(back.input[0]), graph.array(back.input[1])
        axis = next((part.i for part in back.attribute if part.name == "axis"), 1) % integers.ndim
        spread = [-1 if side == axis else 1 for side in range(integers.ndim)] if scale.ndim else []
        zero = graph.array(back.input[2]).astype("float64").reshape(spread) if len(back.input) > 2 else 0
        return Factor(
            name=name,
            dtype=integers.dtype.name,
            meant=onnx.numpy_helper.to_array(weights[name]),
            found=(integers - zero) * scale.reshape(spread),
            axis=axis if scale.ndim else 0,
        )
    return None
