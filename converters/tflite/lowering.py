"""From a `torch.export` graph to a TFLite graph, with the layout decided tensor by tensor.

TFLite's convolutions want channels last, PyTorch's graphs speak of channels second. A `Value` therefore keeps the
model's axes apart from the file's: a permutation in the model only renames axes, and a TRANSPOSE is written only
where an operator cannot take the order that its input lies in.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ...models.errors import ConversionFailed
from .constants import constant_nodes, constants, on_sizes
from .graph import BATCH, Graph, Operator, Tensor

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import fx

NHWC: Final = (0, 2, 3, 1)


class NotLowered(ConversionFailed):
    """The direct writer has no rule for an operator of the model, or not in the form that the model uses."""


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the model: axis i of `tensor` holds the model's axis `order[i]`."""

    tensor: Tensor
    order: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """As the model has it."""
        return tuple(self.tensor.shape[self.order.index(axis)] for axis in range(len(self.order)))

    @property
    def data(self) -> NDArray[Any] | None:
        """A constant's numbers, as the model has them."""
        return None if self.tensor.data is None else self.tensor.data.transpose(inverse(self.order))

    def axis(self, axis: int) -> int:
        """Where the file has the model's `axis`, which may count from the end."""
        return self.order.index(axis % len(self.order))


Rule = Callable[..., "Value | list[Value]"]


def inverse(order: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes `order`."""
    return tuple(order.index(axis) for axis in range(len(order)))


def identity(rank: int) -> tuple[int, ...]:
    """The model's own order."""
    return tuple(range(rank))


class Lowering:
    """What the rules write with: `emit` adds an operator, `arranged` brings a value into an order."""

    def __init__(self) -> None:
        self.graph = Graph(inputs=[])
        self.source = ""
        self.exact = False
        self._rearranged: dict[tuple[Tensor, tuple[int, ...]], Tensor] = {}

    def emit(
        self, kind: str, inputs: Sequence[Tensor | None], shape: Sequence[int], *, name: str = "", **options: Any
    ) -> Tensor:
        """The output, of `shape`, of a new operator."""
        return self.emit_many(kind, inputs, [shape], name=name, **options)[0]

    def emit_many(
        self,
        kind: str,
        inputs: Sequence[Tensor | None],
        shapes: Sequence[Sequence[int]],
        *,
        name: str = "",
        **options: Any,
    ) -> list[Tensor]:
        """The outputs, of `shapes`, of a new operator."""
        stem = f"{self.source}/{name or kind.lower()}".lstrip("/")
        outputs = [Tensor(name=stem, shape=tuple(shape)) for shape in shapes]
        self.graph.operators.append(
            Operator(
                kind=kind,
                inputs=list(inputs),
                outputs=outputs,
                options=options,
                source=self.source,
                exact=self.exact,
            )
        )
        return outputs

    def constant(self, array: NDArray[Any], name: str = "constant") -> Tensor:
        """A constant of the file, with the axes of `array`; int64 and float64 become 32 bits wide."""
        import numpy as np

        narrow = {"int64": np.int32, "float64": np.float32}.get(array.dtype.name, array.dtype.type)
        data = np.ascontiguousarray(array, dtype=narrow).reshape(array.shape)
        return Tensor(name=f"{self.source}/{name}".lstrip("/"), shape=data.shape, dtype=data.dtype.name, data=data)

    def ints(self, numbers: Sequence[int], name: str) -> Tensor:
        """A constant list of int32."""
        import numpy as np

        return self.constant(np.asarray(numbers, np.int32), name)

    def arranged(self, value: Value, order: Sequence[int]) -> Tensor:
        """The tensor of `value` in `order`: itself, a constant turned round, or the output of a TRANSPOSE."""
        order = tuple(order)
        if value.order == order:
            return value.tensor
        turn = tuple(value.order.index(axis) for axis in order)
        shape = tuple(value.tensor.shape[axis] for axis in turn)
        if value.tensor.data is not None:
            return self.constant(value.tensor.data.transpose(turn), "weight")
        # Moving an axis of one element moves nothing: reshaping is free where transposing is not.
        wide = [axis for axis in turn if value.tensor.shape[axis] != 1]
        if wide == sorted(wide):
            return self.reshaped(value.tensor, shape)
        key = (value.tensor, turn)
        if key not in self._rearranged:
            self._rearranged[key] = self.emit("TRANSPOSE", [value.tensor, self.ints(turn, "axes")], shape)
        return self._rearranged[key]

    def reshaped(self, tensor: Tensor, shape: Sequence[int]) -> Tensor:
        """The same numbers in another shape of the file."""
        if tensor.shape == tuple(shape):
            return tensor
        if tensor.data is not None:
            return self.constant(tensor.data.reshape(shape), "weight")
        sizes = [-1 if size % BATCH == 0 else size for size in shape]
        if sizes.count(-1) > 1:
            raise self.refusal("a reshape that leaves the batch in two places")
        return self.emit("RESHAPE", [tensor, self.ints(sizes, "shape")], shape, new_shape=sizes)

    @contextmanager
    def exactly(self) -> Iterator[None]:
        """What is emitted in here stays in float when the graph is quantized."""
        before, self.exact = self.exact, True
        yield
        self.exact = before

    def refusal(self, what: str) -> NotLowered:
        """The error for a form of an operator that no rule covers, with the place in the model."""
        return NotLowered(f"{what} in {self.source or 'the model'}")


def lower(program: torch.export.ExportedProgram, rules: dict[str, Rule], *, channels_last: bool) -> Graph:
    """The graph of `program`, whose 4-D inputs and outputs have their channels last if asked.

    Raises `NotLowered` with the operator's name and the module's path in the user's model.
    """
    low = Lowering()
    values: dict[fx.Node, Any] = {}
    known = constants(program)
    for node in program.graph.nodes:
        low.source = _path(node)
        if node in known:
            values[node] = _constant(low, node.name, known[node])
        elif node.op == "placeholder":
            values[node] = _input(low, node, channels_last=channels_last)
        elif node.op == "call_function":
            values[node] = _apply(low, node, rules, values)
        elif node.op == "output":
            low.source = ""
            finals = _resolved(_finals(low, program, node), values)
            low.graph.outputs = [_output(low, value, channels_last=channels_last) for value in finals]
    return low.graph


def missing(program: torch.export.ExportedProgram, rules: dict[str, Rule]) -> list[str]:
    """The operators of `program` that have no rule, each with the first module that uses it."""
    found: dict[str, str] = {}
    known = set(constant_nodes(program))
    for node in program.graph.nodes:
        computed = node.op == "call_function" and node not in known and not on_sizes(node)
        if computed and str(node.target) not in rules:
            found.setdefault(str(node.target), _path(node) or "the model")
    return [f"{target} in {path}" for target, path in found.items()]


def _constant(low: Lowering, name: str, content: Any) -> Any:
    """Tensors as values of the graph, in lists too; numbers as they are."""
    import torch

    if isinstance(content, list | tuple):
        return [_constant(low, name, part) for part in content]
    if not isinstance(content, torch.Tensor):
        return content
    return Value(low.constant(content.numpy(), name), identity(content.ndim))


def _finals(low: Lowering, program: torch.export.ExportedProgram, node: fx.Node) -> Any:
    """What the module returns, without the inputs that it changes in place."""
    changed = list(program.graph_signature.buffers_to_mutate.values())
    if changed:
        raise low.refusal(f"a buffer, {changed[0]}, that changes from call to call")
    (results,) = node.args
    assert isinstance(results, list | tuple)
    return results[len(results) - len(program.graph_signature.user_outputs) :]


def _input(low: Lowering, node: fx.Node, *, channels_last: bool) -> Value:
    shape = tuple(map(as_int, node.meta["val"].shape))
    order = NHWC if channels_last and len(shape) == 4 else identity(len(shape))
    tensor = Tensor(name=node.name, shape=tuple(shape[axis] for axis in order))
    low.graph.inputs.append(tensor)
    return Value(tensor, order)


def _output(low: Lowering, value: Value, *, channels_last: bool) -> Tensor:
    rank = len(value.order)
    tensor = low.arranged(value, NHWC if channels_last and rank == 4 else identity(rank))
    if tensor.data is None and tensor not in low.graph.inputs and tensor not in low.graph.outputs:
        return tensor
    raise low.refusal("an output that is an input, a constant or another output")


def _apply(low: Lowering, node: fx.Node, rules: dict[str, Rule], values: dict[fx.Node, Any]) -> Any:
    arguments = _resolved(node.args, values)
    if node.target is operator.getitem or on_sizes(node):
        return _on_numbers(low, node, arguments)
    rule = rules.get(str(node.target))
    if rule is None:
        raise low.refusal(f"no rule for {node.target}")
    keywords = {name: _resolved(argument, values) for name, argument in node.kwargs.items()}
    try:
        _check(low, rule, arguments, keywords)
        return rule(low, *arguments, **keywords)
    except NotLowered as error:
        raise NotLowered(f"{node.target}: {error.message}") from error


def _check(low: Lowering, rule: Rule, arguments: list[Any], keywords: dict[str, Any]) -> None:
    """Raise for an argument that the rule does not know: left out silently it would change the result."""
    try:
        inspect.signature(rule).bind(low, *arguments, **keywords)
    except TypeError as error:
        raise low.refusal(f"a form that the rule does not cover ({error})") from error


def _on_numbers(low: Lowering, node: fx.Node, arguments: Any) -> Any:
    if "sym_size" in str(node.target):
        return arguments[0].shape[arguments[1]]
    assert callable(node.target)
    result = node.target(*arguments)
    # `BATCH` stands for the batch only as long as what was computed of it is a multiple.
    is_number = isinstance(result, int | float) and not isinstance(result, bool)
    if is_number and any(map(is_free, arguments)) and result != 0 and not is_free(result):
        raise low.refusal("a number computed of a free batch")
    return result


def is_free(number: Any) -> bool:
    """Whether a number is a size that the free batch has a part in."""
    return isinstance(number, int) and number != 0 and number % BATCH == 0


def _resolved(argument: Any, values: dict[fx.Node, Any]) -> Any:
    import torch

    if isinstance(argument, list | tuple):
        return [_resolved(part, values) for part in argument]
    if isinstance(argument, torch.fx.Node):
        return values[argument]
    return as_int(argument) if isinstance(argument, torch.SymInt) else argument


def as_int(size: int | torch.SymInt) -> int:
    """A size as a number, `BATCH` for the free batch in it."""
    if isinstance(size, int):
        return size
    expression = size.node.expr
    return int(expression.subs(dict.fromkeys(expression.free_symbols, BATCH)))


def _path(node: fx.Node) -> str:
    """The module of the user's model that the node came from, as `blocks1.0.mixer`."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [str(path) for path, _ in stack.values()]
    return paths[-1].removeprefix("L['self'].").removeprefix("L['self']") if paths else ""
