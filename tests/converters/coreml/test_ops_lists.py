"""Lists of tensors: beside Python's own, and through a saved program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evit_edge.converters.coreml import program as programs
from evit_edge.converters.coreml.executor import Executor
from evit_edge.converters.coreml.operators import table
from evit_edge.converters.coreml.ops_lists import Elements
from evit_edge.models.errors import BadArtifact

from . import mil
from .calling import float32, int32, numbers, saved


def call(name: str, **inputs: Any) -> Any:
    return table()[name](**{key: torch.tensor(value) if key != "ls" else value for key, value in inputs.items()})


def made(length: int, *, grows: bool = True) -> Elements:
    found = table()["make_list"](
        elem_shape=(torch.tensor(2),), init_length=torch.tensor(length), dynamic_length=torch.tensor(grows)
    )
    assert isinstance(found, Elements)
    return found


@settings(deadline=None)
@given(st.integers(0, 3), st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=3), max_size=5))
def test_writing_is_that_of_a_list(length: int, writes: list[list[int]]) -> None:
    ls, own, kept = made(length), [None] * length, []
    for number, indices in enumerate(writes):
        kept.append((ls, list(own)))
        values = [[number, place] for place in range(len(indices))]
        if len(indices) == 1:
            ls = call("list_write", ls=ls, index=indices[0], value=values[0])
        else:
            ls = call("list_scatter", ls=ls, indices=indices, value=values)
        for index, value in zip(indices, values, strict=True):
            own += [None] * (index + 1 - len(own))
            own[index] = value  # type: ignore[call-overload]
    # What was written to stays as it was.
    for found, wanted in (*kept, (ls, own)):
        assert int(call("list_length", ls=found)) == len(wanted)
        filled = [index for index, value in enumerate(wanted) if value is not None]
        for index in filled:
            assert call("list_read", ls=found, index=index).tolist() == wanted[index]
        if filled:
            order = filled[::-1] + filled[:1]
            assert call("list_gather", ls=found, indices=order).tolist() == [wanted[index] for index in order]


@pytest.mark.parametrize("index", [-1, 0, 1, 2, 5])
def test_what_was_never_written_has_no_value(index: int) -> None:
    ls = call("list_write", ls=made(1), index=3, value=[1.0])
    with pytest.raises(IndexError, match=f"element {index} of a list of 4 was never written"):
        call("list_read", ls=ls, index=index)
    with pytest.raises(IndexError, match="never written"):
        call("list_gather", ls=ls, indices=[3, index])


@pytest.mark.parametrize(("grows", "index"), [(True, -1), (False, -1), (False, 2)])
def test_writing_outside_is_refused(grows: bool, index: int) -> None:
    with pytest.raises(IndexError, match="is not within the 2 elements"):
        call("list_write", ls=made(2, grows=grows), index=index, value=[1.0])
    with pytest.raises(IndexError, match="is not within the 2 elements"):
        call("list_scatter", ls=made(2, grows=grows), indices=[0, index], value=[[1.0], [2.0]])
    assert int(call("list_length", ls=call("list_write", ls=made(2, grows=grows), index=1, value=[1.0]))) == 2


def test_a_scatter_of_other_many_values_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        call("list_scatter", ls=made(2), indices=[0, 1], value=[[1.0]])


def test_a_list_through_a_program(tmp_path: Path) -> None:
    def function(mb: Any, x: Any) -> Any:
        ls = mb.make_list(init_length=int32(2), elem_shape=(int32(3),), dynamic_length=True)
        ls = mb.list_scatter(ls=ls, indices=int32([1, 0]), value=x)
        ls = mb.list_write(ls=ls, index=mb.list_length(ls=ls), value=mb.reduce_sum(x=x, axes=[0], keep_dims=False))
        return mb.list_gather(ls=ls, indices=int32([2, 0])), mb.list_read(ls=ls, index=int32(1)), mb.list_length(ls=ls)

    x = numbers((2, 3))
    gathered, read, length = saved(function, {"x": x}, "iOS15", tmp_path)
    np.testing.assert_allclose(gathered, [x[0] + x[1], x[1]], rtol=1e-6)
    np.testing.assert_array_equal(read, x[0])
    assert int(length) == 3


def test_a_list_that_a_loop_fills(tmp_path: Path) -> None:
    """As many powers as the first value says."""

    def function(mb: Any, x: Any) -> Any:
        count = mb.cast(x=mb.reduce_max(x=x, keep_dims=False), dtype="int32")
        ls = mb.make_list(init_length=int32(1), elem_shape=(int32(2),), dynamic_length=True)
        zero = mb.sub(x=count, y=count)
        _, filled, _ = mb.while_loop(
            _cond=lambda i, ls, y: mb.less(x=i, y=count),
            _body=lambda i, ls, y: (
                mb.add(x=i, y=int32(1)),
                mb.list_write(ls=ls, index=i, value=y),
                mb.mul(x=y, y=x),
            ),
            loop_vars=(zero, ls, x),
        )
        return mb.list_gather(ls=filled, indices=mb.range_1d(start=int32(0), end=count, step=int32(1)))

    path = mil.program(function, {"x": (2,)}, "iOS15", "FLOAT32", tmp_path)
    running = Executor(programs.load(path))
    for x in (float32([3, 0.5]), float32([5, -2])):
        (powers,) = running.run({"x": x}).values()
        np.testing.assert_allclose(powers, [x ** (1 + i) for i in range(int(x[0]))], rtol=1e-6)
    with pytest.raises(BadArtifact, match="list_gather"):
        running.run({"x": float32([0, 0])})
