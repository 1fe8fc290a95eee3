"""What each operator of a compressed ML Program loses, by the reference executor, which also runs each one alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from .. import tensors
from ..losses import Factor, Grid, Operator, Run, Values
from ..pairs import Node, Pairs, Part
from .executor import CONSTEXPR, Executor
from .inspection import FACTORS, layers
from .program import FLOATS, Operation, Program
from .proof import fitted
from .sums import restored

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from ..artifact import TensorRecord

THERE, BACK = "quantize", "dequantize"
MOVING: Final = ("concat", "expand_dims", "reshape", "split", "squeeze", "transpose")
WEIGHTED: Final = ("conv", "conv_transpose", "linear")


class CoremlProbe:
    """A compressed program and the float one that it was made from, whose values have the same names."""

    def __init__(
        self, written: Program, floating: Program, inputs: Sequence[TensorRecord], given: Sequence[TensorRecord]
    ) -> None:
        self.notes: Sequence[str] = ()
        (self._taken,), self._given = inputs, given
        self._written, self._floating = Executor(restored(written)), Executor(floating, rounding=False)
        self._graph = graph = _Graph(self._written)
        makers = {name: operation for operation in floating.operations for name in operation.outputs}
        known = makers.keys() | {self._taken.name}
        parts = graph.parts()
        self._parts = [part for part in parts if part.output in known and graph.sources(part) <= known]
        self.left_out = [part.output for part in parts if part not in self._parts]
        self.operators = [graph.operator(part, self._factor(part, makers)) for part in self._parts]

    def run(self, feed: NDArray[Any]) -> Run:
        """See `losses.Probe`."""
        found: dict[str, torch.Tensor] = {}
        image = {self._taken.name: fitted(self._taken, feed)}
        results = self._written.run(image, observe=lambda operation, name, values: found.update({name: values}))
        return Run(
            values=[
                replace(values, found=found[part.result].numpy())
                for part, values in zip(self._parts, self.alone(feed), strict=True)
            ],
            outputs=[tensors.to_model(record, self._answer(record, results)[:1]) for record in self._given],
        )

    def alone(self, feed: NDArray[Any]) -> list[Values]:
        """See `losses.Probe`."""
        image = {self._taken.name: fitted(self._taken, feed)}
        meant = self._floating.taken(image)
        self._floating.run(image, observe=lambda operation, name, values: meant.update({name: values}))
        return [
            Values(meant=meant[part.output].numpy(), isolated=self._graph.alone(part, meant).numpy())
            for part in self._parts
        ]

    def _answer(self, record: TensorRecord, results: Mapping[str, Any]) -> NDArray[Any]:
        import numpy as np

        probabilities = self._written.program.probabilities
        if probabilities:
            return np.asarray([list(results[probabilities].values())], np.float32)
        answer: NDArray[Any] = results[record.name].numpy()
        return answer

    def _factor(self, part: Part, makers: Mapping[str, Operation]) -> Factor | None:
        """The weights of a layer that are stored as something else than floats."""
        operation, before = self._graph.operations[part.node], makers.get(part.output)
        stored = self._graph.stored.get(operation.name, "")
        if operation.kind not in WEIGHTED or before is None or not stored or stored in FLOATS:
            return None
        (name,) = before.inputs["weight"]
        meant, found = self._floating.constant(name), self._written.constant(operation.inputs["weight"][0])
        axis = 1 if operation.kind == "conv_transpose" else 0
        return Factor(name=name, dtype=stored, meant=meant.numpy(), found=found.numpy(), axis=axis)


class _Graph:
    """A compressed program's operators with their pairs."""

    def __init__(self, executor: Executor) -> None:
        program = executor.program
        self._executor = executor
        self._results = program.results
        self.operations = [each for each in program.operations if not each.kind.startswith(CONSTEXPR)]
        self.stored = {layer.name: layer.weight_dtype for layer in layers(program)}
        integers = {
            name
            for operation in self.operations
            if operation.kind in FACTORS and self.stored[operation.name] in ("int8", "uint8")
            for key in FACTORS[operation.kind]
            for name in operation.inputs[key]
            if self._is_constant(name)
        }
        nodes = [self._node(operation) for operation in self.operations]
        self.pairs = Pairs(nodes, there=THERE, back=BACK, integers=frozenset(integers))
        self._makers = {name: operation for operation in self.operations for name in operation.outputs}

    def _is_constant(self, name: str) -> bool:
        return self._executor.constant(name) is not None

    def _node(self, operation: Operation) -> Node:
        inputs = [name for names in operation.inputs.values() for name in names if not self._is_constant(name)]
        keys = FACTORS.get(operation.kind)
        factors = [operation.inputs[key][0] for key in keys] if keys else inputs
        return Node(kind=operation.kind, inputs=inputs, factors=factors, outputs=list(operation.outputs))

    def parts(self) -> list[Part]:
        """The float results of what runs alone: control flow does not."""
        return [
            part
            for part in self.pairs.parts(self._results)
            if not self.operations[part.node].blocks and self._is_float(part)
        ]

    def _is_float(self, part: Part) -> bool:
        kind = self._makers[part.result].outputs[part.result]
        return kind is not None and kind.dtype in FLOATS

    def sources(self, part: Part) -> set[str]:
        """What the operator takes, in the float form."""
        return {self.pairs.source(name) for name in self.pairs.nodes[part.node].inputs}

    def operator(self, part: Part, factor: Factor | None) -> Operator:
        """What the report says of it."""
        operation = self.operations[part.node]
        grid = None if part.rounding is None else self._grid(self.operations[part.rounding])
        kind = self._makers[part.result].outputs[part.result]
        assert kind is not None
        taken = [self._makers.get(name) for name in self.pairs.nodes[part.node].inputs]
        same = all(maker is not None and maker.kind == BACK and self._grid(maker) == grid for maker in taken)
        return Operator(
            name=part.output,
            kind=operation.kind,
            arithmetic=(grid.dtype if grid else "int8") if part.integer else kind.dtype,
            grid=grid,
            factor=factor,
            moves=operation.kind in MOVING and grid is not None and same,
        )

    def _grid(self, operation: Operation) -> Grid:
        import numpy as np

        integers = operation.outputs if operation.kind == THERE else self._makers[operation.inputs["input"][0]].outputs
        dtype = next(kind.dtype for kind in integers.values() if kind is not None)
        step = float(self._executor.constant(operation.inputs["scale"][0]))
        zeros = operation.inputs.get("zero_point")
        point = int(self._executor.constant(zeros[0])) if zeros else 0
        limits = np.iinfo(dtype)
        return Grid(dtype=dtype, low=(limits.min - point) * step, high=(limits.max - point) * step, step=step)

    def alone(self, part: Part, meant: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The result of one operator, and of the rounding behind it, on the float form's values."""
        operation = self.operations[part.node]
        values = {name: meant[self.pairs.source(name)] for name in self.pairs.nodes[part.node].inputs}
        result: torch.Tensor
        if part.rounding == part.node:
            (result,) = values.values()
        else:
            result = self._executor.alone(operation, values)[part.output]
        if part.rounding is None:
            return result
        rounding, back = self.operations[part.rounding], self._makers[part.result]
        (integers,) = self._executor.alone(rounding, {rounding.inputs["input"][0]: result}).values()
        (result,) = self._executor.alone(back, {back.inputs["input"][0]: integers}).values()
        return result
