"""Slices against coremltools' value inference, its examples of bounds and masks included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from . import mil
from .calling import agree, int32, numbers, ours, same, saved, shapes

few = settings(max_examples=25, deadline=None)


@few
@given(shapes(), st.data())
def test_slice_by_size(shape: tuple[int, ...], data: st.DataObject) -> None:
    begin, size = [], []
    for side in shape:
        first = data.draw(st.integers(0, side - 1))
        begin.append(first - side if data.draw(st.booleans()) else first)
        size.append(data.draw(st.sampled_from([-1, *range(1, side - first + 1)])))
    if -1 in size:
        # coremltools cannot tell the shape of the rest behind a negative begin.
        begin = [first % side for first, side in zip(begin, shape, strict=True)]
    agree("slice_by_size", x=numbers(shape), begin=int32(begin), size=int32(size))


def test_the_rest_behind_a_negative_begin() -> None:
    x = numbers((3, 5))
    same(ours("slice_by_size", x=x, begin=int32([-1, -4]), size=int32([-1, 2])), x[2:, 1:3])
    with pytest.raises(RuntimeError):
        ours("slice_by_size", x=x, begin=int32([0, 3]), size=int32([1, 3]))


def bounds(shape: tuple[int, ...], data: st.DataObject) -> dict[str, Any]:
    """Arguments of a slice that reads something on every axis."""
    rows = []
    for side in shape:
        first, last = sorted((data.draw(st.integers(0, side - 1)), data.draw(st.integers(0, side - 1))))
        step = data.draw(st.integers(1, 3))
        open_begin, open_end = data.draw(st.booleans()), data.draw(st.booleans())
        if data.draw(st.booleans()) and first > 0:
            rows.append((last - side, first - 1 - side, -step, open_begin, open_end))
        elif data.draw(st.booleans()):
            rows.append((first - side, last - side, step, open_begin, True))
        else:
            rows.append((first, last + 1, step, open_begin, open_end))
    begin, end, stride, begin_mask, end_mask = zip(*rows, strict=True)
    return {
        "begin": int32(begin),
        "end": int32(end),
        "stride": int32(stride),
        "begin_mask": np.array(begin_mask),
        "end_mask": np.array(end_mask),
    }


def python_slices(given_bounds: dict[str, Any]) -> tuple[slice, ...]:
    rows = zip(*(given_bounds[name].tolist() for name in given_bounds), strict=True)
    return tuple(
        slice(None if open_begin else begin, None if open_end else end, stride)
        for begin, end, stride, open_begin, open_end in rows
    )


@few
@given(shapes(), st.data())
def test_slice_by_index(shape: tuple[int, ...], data: st.DataObject) -> None:
    chosen = bounds(shape, data)
    x = numbers(shape)
    same(ours("slice_by_index", x=x, **chosen), x[python_slices(chosen)])


@pytest.mark.parametrize(
    "chosen",
    [
        {"begin": [1, 1], "end": [2, 3]},
        {"begin": [0, -3], "end": [3, -1]},
        {"begin": [0, 0], "end": [3, 5], "stride": [2, 3]},
        {"begin": [-1, -1], "end": [-3, -5], "stride": [-1, -2]},
        {"begin": [2, 2], "end": [0, 0], "begin_mask": [True, False], "end_mask": [True, True]},
        {"begin": [1, 4], "end": [0, 0], "stride": [1, -2], "begin_mask": [False, True], "end_mask": [True, True]},
        {"begin": [1, 0], "end": [2, 5], "squeeze_mask": [True, False]},
        {"begin": [0, -2], "end": [3, 0], "squeeze_mask": [False, True]},
        {"begin": [-1, 3], "end": [0, 0], "squeeze_mask": [True, True]},
        {"begin": [1, 2], "end": [0, 3], "begin_mask": [True, False], "squeeze_mask": [True, False]},
    ],
)
def test_slice_by_index_as_coremltools_infers(chosen: dict[str, list[Any]]) -> None:
    arrays: dict[str, Any] = {
        name: np.array(row, bool) if name.endswith("mask") else int32(row) for name, row in chosen.items()
    }
    agree("slice_by_index", x=numbers((3, 5)), **arrays)


def test_an_index_outside_is_refused_where_the_axis_goes() -> None:
    with pytest.raises(IndexError):
        ours("slice_by_index", x=numbers((3,)), begin=int32([3]), end=int32([0]), squeeze_mask=np.array([True]))


@few
@given(shapes(), st.data())
def test_slice_update(shape: tuple[int, ...], data: st.DataObject) -> None:
    chosen = bounds(shape, data)
    x = numbers(shape)
    want = x.copy()
    update = numbers(x[python_slices(chosen)].shape, 1)
    want[python_slices(chosen)] = update
    same(ours("slice_update", x=x, update=update, **chosen), want)
    same(x, numbers(shape))


def test_slice_update_of_one_row() -> None:
    chosen = {"begin": int32([1, 0]), "end": int32([0, 5]), "squeeze_mask": np.array([True, False])}
    x, update = numbers((3, 5)), numbers((5,), 1)
    agree("slice_update", "iOS18", x=x, update=update, **chosen)
    same(mil.value("slice_update", "iOS18", x=x, update=update, **chosen)[1], update)


def test_a_saved_program_of_them(tmp_path: Path) -> None:
    def whole(mb: Any, x: Any, y: Any) -> Any:
        part = mb.slice_by_index(x=x, begin=[0, 4], end=[0, 1], stride=[1, -1], end_mask=[True, False])
        row = mb.slice_by_index(x=x, begin=[-1, 1], end=[0, 0], end_mask=[False, True], squeeze_mask=[True, False])
        changed = mb.slice_update(x=x, update=y, begin=[0, 1], end=[3, 4], stride=[2, 1])
        return part, row, mb.slice_by_size(x=x, begin=[1, 2], size=[-1, 2]), changed

    x, y = numbers((3, 5)), numbers((2, 3), 1)
    want = x.copy()
    want[::2, 1:4] = y
    got = saved(whole, {"x": x, "y": y}, "iOS18", tmp_path)
    same(got, (x[:, 4:1:-1], x[2, 1:], x[1:, 2:4], want))
