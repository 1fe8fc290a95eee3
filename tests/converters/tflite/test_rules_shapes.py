"""What moves numbers against PyTorch, in every engine, and a property of reshapes in any layout."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional as F

from evit_edge.converters.tflite import rules_shapes
from evit_edge.converters.tflite.graph import Graph, Tensor
from evit_edge.converters.tflite.lowering import Lowering, Value, identity

from .engines import Do, agree

MOVES: dict[str, Callable[[torch.Tensor], Any]] = {
    "view": lambda x: x.view(2, 12, 10),
    "reshape": lambda x: x.reshape(-1, 5, 8),
    "flatten": lambda x: x.flatten(1),
    "flatten the map": lambda x: x.flatten(2).transpose(1, 2),
    "flatten the ends": lambda x: x.flatten(0, 1).flatten(-2),
    "unflatten": lambda x: x.unflatten(1, (2, 3)),
    "permute": lambda x: x.permute(0, 3, 1, 2),
    "permute to negative axes": lambda x: x.permute(0, -1, -3, -2),
    "transpose": lambda x: x.transpose(1, -1),
    "t": lambda x: x.mean((2, 3)).t(),
    "mT": lambda x: x.mT,
    "unsqueeze": lambda x: x.unsqueeze(2).unsqueeze(-1),
    "squeeze": lambda x: x.mean(2, keepdim=True).squeeze(2),
    "squeeze what is wide": lambda x: x.squeeze(1),
    "squeeze many": lambda x: x.mean((1, 3), keepdim=True).squeeze((1, 2, 3)),
    "chunk": lambda x: x.chunk(3, 1),
    "chunk of uneven parts": lambda x: x.chunk(3, 2),
    "split": lambda x: x.split([1, 3, 2], dim=1),
    "split of one size": lambda x: x.split(4, dim=1),
    "split of everything": lambda x: x.split(6, dim=1)[0] + 1,
    "cat": lambda x: torch.cat([x, x + 1, x * 2], 1),
    "cat at the end": lambda x: torch.cat([x, x[..., :1]], -1),
    "cat of two layouts": lambda x: torch.cat([x.permute(0, 2, 3, 1), x.reshape(2, 4, 5, 6)], 1),
    "cat with a constant": lambda x: torch.cat([torch.ones(2, 1, 4, 5), x], 1),
    "stack": lambda x: torch.stack([x.mean(1), x.mean(1) + 1], -1),
    "unbind": lambda x: [part + 1 for part in x.unbind(2)],
    "slice": lambda x: x[:, 1:-1, :, 2:],
    "slice of everything": lambda x: x[:, 0:100] + 1,
    "steps": lambda x: x[:, ::2, 1::3],
    "space to depth": lambda x: torch.cat([x[..., ::2, 0::2], x[..., 1::2, ::2]], 1),
    "select": lambda x: x[:, -1],
    "select twice": lambda x: x[:, 2, :, 0],
    "pad": lambda x: F.pad(x, (1, 2, 0, 3)),
    "pad channels": lambda x: F.pad(x, (0, 0, 0, 0, 1, 2)),
    "pad with a value": lambda x: F.pad(x, (1, 1), value=-1.5),
    "pad by less than nothing": lambda x: F.pad(x, (-1, 2, 1, -2)),
    "expand": lambda x: x.mean(1, keepdim=True).expand(-1, 3, -1, -1),
    "expand a constant": lambda x: x[:, :1] + torch.ones(1, 1, 5).expand(6, 4, 5),
    "expand by an axis": lambda x: x.mean((1, 2)).expand(3, 2, 5),
    "clone": lambda x: x.transpose(1, 2).contiguous().clone() + 1,
    "pixel shuffle": lambda x: F.pixel_shuffle(x[:, :4], 2),
    "channel shuffle": lambda x: x.reshape(2, 2, 3, 4, 5).transpose(1, 2).reshape(2, 6, 4, 5),
    "windows": lambda x: x.permute(0, 2, 3, 1).reshape(2, 2, 2, 5, 6).transpose(2, 3).reshape(-1, 2, 6),
}


@pytest.mark.parametrize("name", MOVES)
def test_moves(name: str) -> None:
    function = MOVES[name]

    def moved(x: torch.Tensor) -> Any:
        y = function(x * 2)
        return [part + 0.5 for part in y] if isinstance(y, list | tuple) else y

    agree(Do(moved), 2, 6, 4, 5)


def test_a_constant_is_repeated_for_every_image() -> None:
    token = torch.linspace(-1, 1, 6).reshape(1, 1, 6)
    agree(Do(lambda x: torch.cat([token.expand(x.shape[0], -1, -1), x.flatten(2).mT], 1)), 3, 6, 4, 5, free=True)
    agree(Do(lambda x: x.mean(0, keepdim=True).expand(x.shape[0], -1, -1, -1) + x), 3, 6, 4, 5, free=True)
    agree(Do(lambda x: x[:, :1].expand(-1, 6, -1, -1) * 2), 3, 6, 4, 5, free=True)


def moved(graph: Graph, arrays: dict[Tensor, NDArray[Any]], wanted: Tensor) -> NDArray[Any]:
    """What the graph's reshapes and transpositions make of `arrays`."""
    for operator in graph.operators:
        source, how = operator.inputs
        assert source is not None
        assert how is not None
        assert how.data is not None
        turn = operator.kind == "TRANSPOSE"
        arrays[operator.output] = arrays[source].transpose(how.data) if turn else arrays[source].reshape(how.data)
    return arrays[wanted]


@st.composite
def chains(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], list[tuple[tuple[int, ...], tuple[int, ...]]]]:
    """A shape, the order in which the file has it, and permutations with the shape to give to each result."""
    factors = draw(st.lists(st.sampled_from([1, 2, 3, 2, 5]), min_size=1, max_size=6))
    first = draw(regrouped(factors))
    steps = []
    shape = first
    for _ in range(draw(st.integers(1, 3))):
        axes = tuple(draw(st.permutations(range(len(shape)))))
        permuted = [factor for axis in axes for factor in prime_factors(shape[axis])]
        shape = draw(regrouped(permuted or [1]))
        steps.append((axes, shape))
    return first, tuple(draw(st.permutations(range(len(first))))), steps


def prime_factors(number: int) -> list[int]:
    divisor = next((candidate for candidate in range(2, number + 1) if number % candidate == 0), None)
    return [] if divisor is None else [divisor, *prime_factors(number // divisor)]


@st.composite
def regrouped(draw: st.DrawFn, factors: list[int]) -> tuple[int, ...]:
    """Neighbouring factors multiplied, with ones strewn in."""
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(factors) - 1)), max_size=4)))
    edges = [0, *(cut for cut in cuts if cut < len(factors)), len(factors)]
    shape = [math.prod(factors[a:b]) for a, b in pairwise(edges)]
    for place in draw(st.lists(st.integers(0, len(shape)), max_size=2)):
        shape.insert(place, 1)
    return tuple(shape)


@settings(max_examples=400, deadline=None)
@given(chains())
def test_permutations_and_reshapes_in_any_layout_are_those_of_numpy(
    case: tuple[tuple[int, ...], tuple[int, ...], list[tuple[tuple[int, ...], tuple[int, ...]]]],
) -> None:
    shape, order, steps = case
    model = np.arange(math.prod(shape)).reshape(shape)
    low = Lowering()
    given_file = Tensor(name="x", shape=tuple(shape[axis] for axis in order))
    value = Value(given_file, order)
    arrays: dict[Tensor, NDArray[Any]] = {given_file: model.transpose(order)}
    for axes, after in steps:
        value = rules_shapes.reshape(low, rules_shapes.permute(low, value, axes), after)
        model = model.transpose(axes).reshape(after)
        assert value.shape == model.shape
        assert value.tensor.shape == tuple(after[axis] for axis in value.order)
    result = low.arranged(value, identity(len(value.order)))
    assert (moved(low.graph, arrays, result) == model).all()
