"""Making, joining and dividing tensors, against coremltools' value inference or a definition in NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from . import mil
from .calling import agree, float32, int32, integers, numbers, ours, same, saved, shapes

few = settings(max_examples=25, deadline=None)


@few
@given(shapes(2), st.integers(-1, 4), st.integers(-1, 4), st.booleans())
def test_band_part(shape: tuple[int, ...], lower: int, upper: int, whole: bool) -> None:
    x = integers(1, 9, shape) if whole else numbers(shape)
    agree("band_part", x=x, lower=int32(lower), upper=int32(upper))
    agree("band_part", x=x)


@few
@given(shapes(), st.data(), st.booleans(), st.booleans())
def test_cumsum(shape: tuple[int, ...], data: st.DataObject, exclusive: bool, reverse: bool) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    x = integers(-9, 9, shape)
    want = np.zeros_like(x)
    for place in np.ndindex(*shape):
        for other in range(shape[axis]):
            before = place[axis] - other if not reverse else other - place[axis]
            if before > 0 or (before == 0 and not exclusive):
                want[place] += x[(*place[:axis], other, *place[axis + 1 :])]
    options = {"axis": int32(axis), "exclusive": np.bool_(exclusive), "reverse": np.bool_(reverse)}
    same(ours("cumsum", x=x, **options), want)
    if not exclusive:
        # coremltools' own inference of the exclusive sum fails.
        agree("cumsum", x=x, **options)


def test_cumsum_is_of_the_first_axis_unless_told() -> None:
    agree("cumsum", x=numbers((3, 4)), tolerance=1e-6)
    assert np.isfinite(ours("cumsum", x=float32([1, np.inf]), exclusive=np.bool_(True))).all()


@few
@given(shapes(), st.sampled_from([float32(2.5), int32(-3), np.bool_(True)]))
def test_fill_and_fill_like(shape: tuple[int, ...], value: Any) -> None:
    agree("fill", shape=int32(shape), value=value)
    agree("fill_like", ref_tensor=integers(0, 9, shape), value=value)
    same(ours("fill", shape=int32(shape)), np.zeros(shape, np.float32))
    same(ours("fill_like", ref_tensor=integers(0, 9, shape)), np.zeros(shape, np.float32))


@few
@given(shapes())
def test_identity_and_shape(shape: tuple[int, ...]) -> None:
    agree("identity", x=numbers(shape))
    agree("shape", x=numbers(shape))


@few
@given(shapes(0, 3), st.integers(1, 6), st.data())
def test_one_hot(shape: tuple[int, ...], size: int, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape) - 1, len(shape)))
    indices = integers(-1, size + 1, shape)
    want = np.full((*shape, size), -2, np.float32)
    for place in np.ndindex(*shape):
        if 0 <= indices[place] < size:
            want[(*place, indices[place])] = 3
    want = np.moveaxis(want, -1, axis)
    options = {"on_value": float32(3), "off_value": float32(-2)}
    same(ours("one_hot", indices=indices, one_hot_vector_size=int32(size), axis=int32(axis), **options), want)
    plain = ours("one_hot", indices=indices, one_hot_vector_size=int32(size))
    same(plain, np.moveaxis((want == 3).astype(np.int64), axis, -1))


@few
@given(shapes(), st.sampled_from(["constant", "reflect", "replicate"]), st.data())
def test_pad(shape: tuple[int, ...], mode: str, data: st.DataObject) -> None:
    axes = data.draw(st.integers(1, len(shape)))
    amounts = []
    for size in shape[-axes:]:
        most = {"constant": 3, "reflect": size - 1, "replicate": size}[mode]
        amounts += [data.draw(st.integers(0, most)), data.draw(st.integers(0, most))]
    options: dict[str, Any] = {"constant_val": float32(1.5)} if mode == "constant" else {}
    agree("pad", x=numbers(shape), pad=int32(amounts), mode=mode, **options)
    agree("pad", x=numbers(shape), pad=int32([1, 2]))


def test_a_reflection_is_not_longer_than_its_axis() -> None:
    with pytest.raises(ValueError, match="longer"):
        ours("pad", x=numbers((2, 3)), pad=int32([3, 0]), mode="reflect")


@few
@given(st.integers(-9, 9), st.integers(1, 12), st.integers(1, 4), st.booleans())
def test_range_1d_of_integers(start: int, length: int, step: int, down: bool) -> None:
    sign = -1 if down else 1
    numbers_of = {"start": start, "end": start + sign * length, "step": sign * step}
    agree("range_1d", **{name: int32(value) for name, value in numbers_of.items()})


@few
@given(st.integers(-8, 8), st.integers(1, 40), st.sampled_from([0.25, 0.5, 1.5, 0.1]))
def test_range_1d_of_floats(start: int, length: int, step: float) -> None:
    bounds = {"start": float32(start), "end": float32(start + length / 4 - 0.05), "step": float32(step)}
    agree("range_1d", tolerance=1e-5, **bounds)


@few
@given(shapes(), st.data())
def test_tile(shape: tuple[int, ...], data: st.DataObject) -> None:
    reps = data.draw(st.lists(st.integers(1, 3), min_size=len(shape), max_size=len(shape)))
    agree("tile", x=numbers(shape), reps=int32(reps))


@few
@given(shapes(), st.data())
def test_select(shape: tuple[int, ...], data: st.DataObject) -> None:
    thin = tuple(data.draw(st.sampled_from([1, size])) for size in shape)
    agree("select", cond=numbers(thin) > 0, a=numbers(shape, 1), b=numbers(shape, 2))
    agree("select", cond=numbers(shape) > 0, a=numbers(thin, 1), b=numbers(shape, 2))


@few
@given(shapes(), st.integers(1, 4), st.data())
def test_concat(shape: tuple[int, ...], count: int, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=count, max_size=count))
    parts = []
    for seed, size in enumerate(sizes):
        sides = list(shape)
        sides[axis] = size
        parts.append(numbers(tuple(sides), seed))
    agree("concat", values=tuple(parts), axis=int32(axis))


@few
@given(shapes(), st.integers(1, 4), st.data())
def test_concat_that_interleaves(shape: tuple[int, ...], count: int, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    parts = tuple(numbers(shape, seed) for seed in range(count))
    want = np.zeros_like(np.concatenate(parts, axis))
    for i, part in enumerate(parts):
        place = [slice(None)] * len(shape)
        place[axis] = slice(i, None, count)
        want[tuple(place)] = part
    same(ours("concat", values=parts, axis=int32(axis), interleave=np.bool_(True)), want)


def test_concat_makes_a_vector_of_scalars() -> None:
    same(ours("concat", values=(int32(4), int32(-2)), axis=int32(0)), int32([4, -2]))


@few
@given(shapes(), st.data())
def test_split_by_sizes_or_number(shape: tuple[int, ...], data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=2, max_size=4))
    sides = list(shape)
    sides[axis] = sum(sizes)
    x = numbers(tuple(sides))
    agree("split", x=x, split_sizes=int32(sizes), axis=int32(axis))
    agree("split", x=x, num_splits=int32(len(sizes)), split_sizes=int32(sizes), axis=int32(axis))
    sides[axis] = 3 * len(sizes)
    agree("split", x=numbers(tuple(sides)), num_splits=int32(len(sizes)), axis=int32(axis))


def test_a_split_into_one_part_is_no_tuple_and_needs_a_number() -> None:
    same(ours("split", x=numbers((2, 3)), num_splits=int32(1), axis=int32(1)), numbers((2, 3)))
    with pytest.raises(ValueError, match="neither"):
        ours("split", x=numbers((2, 3)), axis=int32(1))


@few
@given(shapes(0, 3), st.integers(1, 4), st.data())
def test_stack(shape: tuple[int, ...], count: int, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape) - 1, len(shape)))
    parts = tuple(numbers(shape, seed) for seed in range(count))
    same(ours("stack", values=parts, axis=int32(axis)), np.stack(parts, axis))
    if shape:
        agree("stack", values=parts, axis=int32(axis))


@pytest.mark.parametrize("target", ["iOS15", "iOS18"])
def test_a_saved_program_of_them(target: str, tmp_path: Path) -> None:
    def whole(mb: Any, x: Any, y: Any) -> Any:
        left, middle, right = mb.split(x=x, split_sizes=[1, 2, 3], axis=1)
        joined = mb.concat(values=(right, left, middle), axis=-1)
        woven = mb.concat(values=(x, y), axis=0, interleave=True)
        alone = mb.concat(values=(mb.split(x=y, num_splits=2, axis=0)[1],), axis=0)
        padded = mb.pad(x=mb.tile(x=alone, reps=[2, 1]), pad=[1, 0, 2, 3], mode="constant", constant_val=-1.0)
        return joined, woven, padded, mb.band_part(x=x, lower=1, upper=0), mb.cumsum(x=y, axis=1, reverse=True)

    x, y = numbers((2, 6), 1), numbers((2, 6), 2)
    joined, woven, padded, band, sums = saved(whole, {"x": x, "y": y}, target, tmp_path)
    same(joined, np.concatenate([x[:, 3:], x[:, :3]], 1))
    same(woven, np.stack([x[0], y[0], x[1], y[1]]))
    same(padded, np.pad(np.tile(y[1:], (2, 1)), [(1, 0), (2, 3)], constant_values=-1))
    same(band, np.tril(x) * (np.subtract.outer(np.arange(2), np.arange(6)) <= 1))
    same(sums, np.cumsum(y[:, ::-1], 1)[:, ::-1], tolerance=1e-6)


def test_an_inference_that_does_not_fit_is_seen() -> None:
    want = mil.value("concat", values=(float32([1]), float32([2])), axis=int32(0))
    with pytest.raises(AssertionError):
        same(ours("concat", values=(float32([2]), float32([1])), axis=int32(0)), want)
