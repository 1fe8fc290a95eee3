"""A TFLite graph in memory: tensors, operators in the order of execution, and what both were made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Stands for a free batch in every shape: a prime that no model has as a size, so that products and quotients of
# sizes tell by themselves where the batch went. The file has -1 there.
BATCH: Final = 1_000_003


@dataclass(frozen=True, slots=True, kw_only=True)
class Scales:
    """real = scale · (q - zero_point), one of each, or one a slice along `axis`."""

    scale: NDArray[Any]
    zero_point: NDArray[Any]
    axis: int = 0


@dataclass(eq=False, slots=True, kw_only=True)
class Tensor:
    """`shape` and `data` are those of the file, channels last where it has them last; `data` makes it a constant."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    data: NDArray[Any] | None = None
    scales: Scales | None = None


@dataclass(eq=False, slots=True, kw_only=True)
class Operator:
    """`kind` is a name of TFLite's BuiltinOperator, `options` its fields; `source` the place in the user's model.

    What is `exact` stays in float when the graph is quantized.
    """

    kind: str
    inputs: list[Tensor | None]
    outputs: list[Tensor]
    options: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    exact: bool = False

    @property
    def output(self) -> Tensor:
        """The only one."""
        (only,) = self.outputs
        return only


@dataclass(eq=False, slots=True, kw_only=True)
class Graph:
    """`operators` may only use what stands before them; `order_of` says which model axis each file axis holds."""

    inputs: list[Tensor]
    outputs: list[Tensor] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor that is used, once each."""
        lists = ([*operator.inputs, *operator.outputs] for operator in self.operators)
        everything = chain(self.inputs, *lists, self.outputs)
        yield from dict.fromkeys(tensor for tensor in everything if tensor is not None)

    def producers(self) -> Mapping[Tensor, Operator]:
        """Which operator gives each tensor."""
        return {tensor: operator for operator in self.operators for tensor in operator.outputs}

    def uses(self) -> Counter[Tensor]:
        """How often each tensor is taken, by operators and as an output of the graph."""
        uses = Counter(t for operator in self.operators for t in operator.inputs if t is not None)
        uses.update(self.outputs)
        return uses

    def replace(self, old: Tensor, new: Tensor) -> None:
        """Whoever took `old` takes `new` from now on."""
        for operator in self.operators:
            operator.inputs = [new if tensor is old else tensor for tensor in operator.inputs]
        self.outputs = [new if tensor is old else tensor for tensor in self.outputs]

    def copy(self) -> Graph:
        """Another graph of the same tensors, whose operators can be changed."""
        operators = [replace(each, inputs=[*each.inputs], outputs=[*each.outputs]) for each in self.operators]
        return Graph(inputs=[*self.inputs], outputs=[*self.outputs], operators=operators)

    def name_apart(self) -> None:
        """Number the outputs of operators that have the name of an earlier one: `matmul`, `matmul_2`, ….

        Two of the same kind at one place of the model have the same.
        """
        seen: Counter[str] = Counter()
        for operator in self.operators:
            for tensor in operator.outputs:
                seen[tensor.name] += 1
                if seen[tensor.name] > 1:
                    tensor.name = f"{tensor.name}_{seen[tensor.name]}"

    def drop_unused(self) -> None:
        """Remove the operators that nothing needs."""
        needed = set(self.outputs)
        kept = []
        for operator in reversed(self.operators):
            if needed.intersection(operator.outputs):
                kept.append(operator)
                needed.update(t for t in operator.inputs if t is not None)
        self.operators = kept[::-1]
