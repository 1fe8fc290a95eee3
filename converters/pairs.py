"""Graphs that write rounding as pairs, an operator to integers and one back: which operator each pair belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operator; of `inputs`, which are its activations alone, the `factors` must be integers for it to be one."""

    kind: str
    inputs: Sequence[str]
    factors: Sequence[str]
    outputs: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A result to look at: `output` of the operator at place `node`, as `result` behind its own rounding.

    `rounding` is the place of the operator that rounds it, None where nothing does.
    """

    node: int
    output: str
    result: str
    integer: bool
    rounding: int | None


class Pairs:
    """A graph whose operators `there` and `back` round; `integers` are the constants that are made of some."""

    def __init__(self, nodes: Sequence[Node], *, there: str, back: str, integers: frozenset[str]) -> None:
        self.nodes = nodes
        self._there, self._back = there, back
        self._integers = integers
        self._makers = {name: place for place, node in enumerate(nodes) for name in node.outputs}
        self._readers: dict[str, list[int]] = {}
        for place, node in enumerate(nodes):
            for name in node.inputs:
                self._readers.setdefault(name, []).append(place)

    def source(self, name: str) -> str:
        """The value that `name` is, rounded or not, in the float form."""
        maker = self._maker(name, self._back)
        rounding = self._maker(maker.inputs[0], self._there) if maker and maker.inputs else None
        return self.source(rounding.inputs[0]) if rounding else name

    def parts(self, outputs: Sequence[str]) -> list[Part]:
        """Every result once; a pair behind an integer operator, whose result nobody else reads, belongs to that one.

        `outputs` are the graph's.
        """
        found, taken = list[Part](), set[int]()
        for place, node in enumerate(self.nodes):
            if node.kind == self._back or place in taken or not node.inputs:
                continue
            if node.kind == self._there:
                back = self._behind(node.outputs[0])
                if back is not None:
                    found.append(self._part(place, self.source(node.inputs[0]), place, integer=True))
                continue
            integer = self._is_integer(node)
            for output in node.outputs:
                rounding = self._own_rounding(output, outputs) if integer else None
                taken.update([] if rounding is None else [rounding])
                found.append(self._part(place, output, rounding, integer=integer))
        return found

    def _part(self, node: int, output: str, rounding: int | None, *, integer: bool) -> Part:
        back = None if rounding is None else self._behind(self.nodes[rounding].outputs[0])
        result = output if back is None else self.nodes[back].outputs[0]
        return Part(node=node, output=output, result=result, integer=integer, rounding=rounding)

    def _own_rounding(self, output: str, outputs: Sequence[str]) -> int | None:
        readers = self._readers.get(output, [])
        if output in outputs or len(readers) != 1 or self.nodes[readers[0]].kind != self._there:
            return None
        return readers[0] if self._behind(self.nodes[readers[0]].outputs[0]) is not None else None

    def _behind(self, integers: str) -> int | None:
        """Who turns the integers into floats."""
        return next((place for place in self._readers.get(integers, ()) if self.nodes[place].kind == self._back), None)

    def _is_integer(self, node: Node) -> bool:
        return bool(node.factors) and all(name in self._integers or self.source(name) != name for name in node.factors)

    def _maker(self, name: str, kind: str) -> Node | None:
        place = self._makers.get(name)
        node = None if place is None else self.nodes[place]
        return node if node is not None and node.kind == kind else None
