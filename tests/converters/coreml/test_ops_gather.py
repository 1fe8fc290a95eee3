"""Gathering and scattering, against coremltools' value inference or a loop over every index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from . import mil
from .calling import Array, agree, float32, int32, integers, numbers, ours, same, saved, shapes

few = settings(max_examples=25, deadline=None)
MODES = ("update", "add", "sub", "mul", "div", "max", "min")


@few
@given(shapes(), shapes(0, 3, 3), st.data())
def test_gather(shape: tuple[int, ...], places: tuple[int, ...], data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    indices = integers(-shape[axis], shape[axis], places)
    want = np.take(numbers(shape), indices, axis)
    same(ours("gather", x=numbers(shape), indices=indices, axis=int32(axis)), want)
    if places:
        agree("gather", "iOS15", x=numbers(shape), indices=indices, axis=int32(axis))
    same(ours("gather", x=numbers((4, 3)), indices=int32([2, -1])), numbers((4, 3))[[2, 3]])


@few
@given(shapes(2), st.data())
def test_gather_in_batches(shape: tuple[int, ...], data: st.DataObject) -> None:
    batch = data.draw(st.integers(1, len(shape) - 1))
    axis = data.draw(st.integers(batch, len(shape) - 1))
    own = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
    indices = integers(0, shape[axis], (*shape[:batch], *own))
    options = {"axis": int32(axis), "batch_dims": int32(batch)}
    agree("gather", "iOS16", x=numbers(shape), indices=indices, **options)
    agree("gather", "iOS17", x=numbers(shape), indices=indices, **options, validate_indices=np.bool_(True))


@few
@given(shapes(), st.integers(1, 6), st.data())
def test_gather_along_axis(shape: tuple[int, ...], size: int, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    sides = list(shape)
    sides[axis] = size
    indices = integers(-shape[axis], shape[axis], tuple(sides))
    agree("gather_along_axis", x=numbers(shape), indices=indices, axis=int32(axis))


@few
@given(shapes(), shapes(0, 2, 3), st.data())
def test_gather_nd(shape: tuple[int, ...], places: tuple[int, ...], data: st.DataObject) -> None:
    batch = data.draw(st.integers(0, len(shape) - 1))
    depth = data.draw(st.integers(1, len(shape) - batch))
    x = numbers(shape)
    around = (*shape[:batch], *places)
    parts = [integers(-side, side, around, seed) for seed, side in enumerate(shape[batch : batch + depth])]
    indices = np.stack(parts, -1)
    want = np.zeros((*around, *shape[batch + depth :]), np.float32)
    for place in np.ndindex(*around):
        want[place] = x[(*place[:batch], *indices[place])]
    same(ours("gather_nd", x=x, indices=indices, batch_dims=int32(batch)), want)


def written(old: Any, new: Any, mode: str) -> Any:
    return {
        "update": lambda: new,
        "add": lambda: old + new,
        "sub": lambda: old - new,
        "mul": lambda: old * new,
        "div": lambda: old / new,
        "max": lambda: max(old, new),
        "min": lambda: min(old, new),
    }[mode]()


@few
@given(shapes(), st.integers(1, 6), st.sampled_from(MODES), st.data())
def test_scatter(shape: tuple[int, ...], count: int, mode: str, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    indices = integers(-shape[axis], shape[axis], (count,))
    sides = list(shape)
    sides[axis] = count
    updates = numbers(tuple(sides), 1)
    want = numbers(shape).astype(np.float64)
    for place in np.ndindex(*sides):
        target = list(place)
        target[axis] = indices[place[axis]]
        want[tuple(target)] = written(want[tuple(target)], updates[place], mode)
    options = {"indices": indices, "axis": int32(axis), "mode": mode}
    got = ours("scatter", data=numbers(shape), updates=updates, **options)
    same(got, want, tolerance=1e-5)


@few
@given(shapes(), st.integers(1, 6), st.sampled_from(MODES), st.data())
def test_scatter_along_axis(shape: tuple[int, ...], count: int, mode: str, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    sides = list(shape)
    sides[axis] = count
    indices = integers(-shape[axis], shape[axis], tuple(sides))
    updates = numbers(tuple(sides), 1)
    want = numbers(shape).astype(np.float64)
    for place in np.ndindex(*sides):
        target = list(place)
        target[axis] = indices[place]
        want[tuple(target)] = written(want[tuple(target)], updates[place], mode)
    options = {"indices": indices, "axis": int32(axis), "mode": mode}
    same(ours("scatter_along_axis", data=numbers(shape), updates=updates, **options), want, tolerance=1e-5)
    if mode == "update":
        # coremltools' own inference takes every mode for this one.
        agree("scatter_along_axis", data=numbers(shape), updates=updates, **options)


@few
@given(shapes(), shapes(1, 2, 4), st.sampled_from(MODES), st.data())
def test_scatter_nd(shape: tuple[int, ...], places: tuple[int, ...], mode: str, data: st.DataObject) -> None:
    depth = data.draw(st.integers(1, len(shape)))
    indices = np.stack([integers(-side, side, places, seed) for seed, side in enumerate(shape[:depth])], -1)
    updates = numbers((*places, *shape[depth:]), 1)
    want = numbers(shape).astype(np.float64)
    for place in np.ndindex(*places):
        target = tuple(indices[place])
        for rest in np.ndindex(*shape[depth:]):
            want[(*target, *rest)] = written(want[(*target, *rest)], updates[(*place, *rest)], mode)
    same(ours("scatter_nd", data=numbers(shape), indices=indices, updates=updates, mode=mode), want, tolerance=1e-5)


def test_a_scatter_adds_unless_told_and_leaves_its_input_alone() -> None:
    data: Array = int32([[1, 2, 3], [4, 5, 6]])
    updates = int32([[5, 6, 7], [8, 9, 10]])
    same(ours("scatter", data=data, indices=int32([1, 0]), updates=updates), int32([[9, 11, 13], [9, 11, 13]]))
    same(data, int32([[1, 2, 3], [4, 5, 6]]))
    assert mil.value("scatter", data=data, indices=int32([1, 0]), updates=updates) is None
    with pytest.raises(ValueError, match="mode is xor"):
        ours("scatter", data=data, indices=int32([1, 0]), updates=updates, mode="xor")


def test_integers_are_divided_to_the_next_one_below() -> None:
    got = ours("scatter", data=int32([7, -7]), indices=int32([0, 1]), updates=int32([2, 2]), mode="div")
    same(got, int32([3, -4]))


@pytest.mark.parametrize("name", ["gather", "gather_along_axis", "gather_nd"])
def test_indices_outside_are_refused(name: str) -> None:
    x = numbers((3,))
    for indices, validate in (([3], False), ([-4], False), ([-1], True)):
        shaped = int32([indices]) if name == "gather_nd" else int32(indices)
        with pytest.raises(IndexError, match="outside of an axis of size 3"):
            ours(name, x=x, indices=shaped, validate_indices=np.bool_(validate))
    with pytest.raises(IndexError):
        ours("scatter_nd", data=x, indices=int32([[-1]]), updates=x[:1], validate_indices=np.bool_(True))


@pytest.mark.parametrize("target", ["iOS15", "iOS16", "iOS17"])
def test_a_saved_program_of_them(target: str, tmp_path: Path) -> None:
    def whole(mb: Any, x: Any, y: Any) -> Any:
        rows = mb.gather(x=x, indices=[2, 0], axis=0)
        column = mb.gather(x=x, indices=int32(1), axis=1)
        along = mb.gather_along_axis(x=x, indices=[[0, 2, 1, 0]], axis=0)
        single = mb.gather_nd(x=x, indices=[[2, 3], [0, 1]])
        added = mb.scatter(data=x, indices=[1, 1], updates=y, axis=0)
        replaced = mb.scatter_nd(data=x, indices=[[2], [0]], updates=y, mode="update")
        return rows, column, along, single, added, replaced

    x, y = numbers((3, 4)), numbers((2, 4), 1)
    rows, column, along, single, added, replaced = saved(whole, {"x": x, "y": y}, target, tmp_path)
    same((rows, column, single), (x[[2, 0]], x[:, 1], float32([x[2, 3], x[0, 1]])))
    same(along, x[[0, 2, 1, 0], range(4)][None])
    same(added, np.stack([x[0], x[1] + y[0] + y[1], x[2]]), tolerance=1e-6)
    same(replaced, np.stack([y[1], x[1], y[0]]))
