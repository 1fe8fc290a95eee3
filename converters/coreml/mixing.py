"""What an ML Program answers with any of its operators in int8 and the others in float, by the reference executor."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from . import int8
from .executor import CONSTEXPR, Executor
from .inspection import layers
from .program import Operation, Program, flattened

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Feeds = Mapping[str, NDArray[Any]]

THERE, BACK = "quantize", "dequantize"
# coremltools rounds a layer's result behind the first of these that reads it.
ACTIVATIONS: Final = ("leaky_relu", "tanh", "scaled_tanh", "sigmoid", "hard_sigmoid", "relu", "relu6")


class CoremlMixable:
    """A program that was quantized once: what is to be float reads what is not rounded, and the float weights.

    Operators that share their weights go by the name of the first.
    """

    def __init__(self, floating: Program, quantized: Program, feeds: Sequence[Feeds]) -> None:
        """`feeds` are by the input's name: one image each, as often as a fixed batch wants it, or any of a free one."""
        self._feeds = feeds
        self._batch = floating.inputs[0].shape[0]
        self._floating = floating
        self._floats = {operation.name: operation for operation in floating.operations}
        self._quantized = replace(
            quantized,
            # Names stay, but those of compressed weights, beside which the float ones are put back.
            constants={**floating.constants, **quantized.constants},
            operations=tuple(_hoisted(quantized)),
        )
        self._sources = dict(_sources(quantized))
        self._rounded = {source: name for name, source in self._sources.items()}
        self._readers = _readers(floating)
        found = list(layers(quantized, images=self._batch or 1))
        self._inside = {
            layer.name: layer.macs for layer in found if layer.arithmetic == "int8" and layer.name in self._floats
        }
        self._macs = dict(self._grouped())
        self._float_macs = sum(layer.macs for layer in found) - sum(self._macs.values())

    @property
    def macs(self) -> Mapping[str, int]:
        """The operators that int8 takes, by their own name."""
        return self._macs

    @property
    def float_macs(self) -> int:
        """Those of the products of two activations and of depthwise layers, mostly."""
        return self._float_macs

    def answers(self, integer: Collection[str]) -> NDArray[Any]:
        """The first output, or a classifier's probabilities, for every image: (n, elements)."""
        import numpy as np

        taken = int8.together(self._floating, integer) & self._inside.keys()
        executor = Executor(self._with(taken) if taken else self._floating)
        answers: NDArray[Any] = np.concatenate([self._answer(executor.run(feed)) for feed in self._feeds])
        return answers.reshape(len(answers), -1)

    def _answer(self, results: Mapping[str, Any]) -> NDArray[Any]:
        import numpy as np

        if self._floating.probabilities:
            return np.asarray([list(results[self._floating.probabilities].values())], np.float32)
        answer: NDArray[Any] = results[self._floating.outputs[0].name].numpy()
        return answer if self._batch is None else answer[:1]

    def _grouped(self) -> Iterator[tuple[str, int]]:
        seen = set[str]()
        for name in self._inside:
            if name not in seen:
                group = int8.together(self._floating, [name]) & self._inside.keys()
                yield name, sum(self._inside[each] for each in group)
                seen |= group

    def _with(self, integer: Collection[str]) -> Program:
        """The program in which only the operators `integer` are quantized."""
        ends = {self._end(self._floats[name], integer) for name in integer}
        rounded = {name: self._rounded[name] for name in ends if name in self._rounded}
        operations = (self._mixed(operation, integer, rounded) for operation in self._quantized.operations)
        return replace(self._quantized, operations=tuple(_needed([*operations], self._quantized.results)))

    def _mixed(self, operation: Operation, integer: Collection[str], rounded: Mapping[str, str]) -> Operation:
        if operation.name in integer or operation.kind in (THERE, BACK):
            return operation
        # What int8 never takes has compressed weights in any case.
        given = self._floats[operation.name].inputs if operation.name in self._inside else operation.inputs
        read = ((key, [self._sources.get(name, name) for name in names]) for key, names in given.items())
        return replace(operation, inputs={key: tuple(rounded.get(name, name) for name in names) for key, names in read})

    def _end(self, operation: Operation, integer: Collection[str]) -> str:
        """The value that all read rounded behind an integer operator: its result, or that of its activation."""
        (output,) = operation.outputs
        first = next((reader for reader in self._readers.get(output, ()) if reader.name not in integer), None)
        if first is None or first.kind not in ACTIVATIONS:
            return output
        return next(iter(first.outputs))


def _hoisted(program: Program) -> Iterator[Operation]:
    """The operators, each pair that rounds a value directly behind where it is made."""
    rounding: dict[str, list[Operation]] = {}
    for operation in program.operations:
        if operation.kind in (THERE, BACK):
            rounding.setdefault(operation.inputs["input"][0], []).append(operation)

    def behind(names: Iterable[str]) -> Iterator[Operation]:
        for name in names:
            for operation in rounding.get(name, ()):
                yield operation
                yield from behind(operation.outputs)

    yield from behind(feature.name for feature in program.inputs)
    for operation in program.operations:
        if operation.kind not in (THERE, BACK):
            yield operation
            yield from behind(operation.outputs)


def _sources(program: Program) -> Iterator[tuple[str, str]]:
    """What is rounded, by the name of the rounded value."""
    integers: dict[str, str] = {}
    for operation in program.operations:
        if operation.kind == THERE:
            integers.update(dict.fromkeys(operation.outputs, operation.inputs["input"][0]))
        if operation.kind == BACK:
            yield from ((name, integers[operation.inputs["input"][0]]) for name in operation.outputs)


def _readers(program: Program) -> dict[str, list[Operation]]:
    found: dict[str, list[Operation]] = {}
    for operation in program.operations:
        for name in dict.fromkeys(name for names in operation.inputs.values() for name in names):
            found.setdefault(name, []).append(operation)
    return found


def _needed(operations: Sequence[Operation], results: Iterable[str]) -> list[Operation]:
    """Without what only prepares values that nobody reads: it would take most of the time."""
    read, kept = set(results), list[Operation]()
    for operation in reversed(operations):
        prepares = operation.kind in (THERE, BACK) or operation.kind.startswith(CONSTEXPR)
        if prepares and read.isdisjoint(operation.outputs):
            continue
        kept.append(operation)
        for each in flattened([operation]):
            read.update(name for names in each.inputs.values() for name in names)
            read.update(name for block in each.blocks for name in block.results)
    return kept[::-1]
