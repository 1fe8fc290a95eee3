"""Shapes and orders, against coremltools' value inference, TensorFlow's definitions in NumPy, and PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from .calling import Array, agree, float32, int32, integers, numbers, ours, same, saved, shapes

few = settings(max_examples=25, deadline=None)


@few
@given(shapes(0, 3), st.integers(1, 3), st.data())
def test_expand_dims(shape: tuple[int, ...], count: int, data: st.DataObject) -> None:
    rank = len(shape) + count
    places = data.draw(st.lists(st.integers(0, rank - 1), min_size=count, max_size=count, unique=True))
    axes = [place - rank if data.draw(st.booleans()) else place for place in places]
    agree("expand_dims", x=numbers(shape) if shape else float32(3), axes=int32(axes))


@few
@given(st.lists(st.sampled_from([1, 1, 3]), min_size=1, max_size=5).map(tuple), st.data())
def test_squeeze(shape: tuple[int, ...], data: st.DataObject) -> None:
    x = numbers(shape)
    same(ours("squeeze", x=x), np.squeeze(x))
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
    signed = [axis - len(shape) if data.draw(st.booleans()) else axis for axis in axes]
    want = x.reshape([size for axis, size in enumerate(shape) if size != 1 or axis not in axes])
    same(ours("squeeze", x=x, axes=int32(signed)), want)
    if x.ndim > 1 and all(shape[axis] == 1 for axis in axes) and want.ndim:
        agree("squeeze", x=x, axes=int32(signed))


@few
@given(shapes(), st.data())
def test_flatten2d(shape: tuple[int, ...], data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape)))
    x = numbers(shape)
    rows = int(np.prod(shape[:axis], dtype=int))
    same(ours("flatten2d", x=x, axis=int32(axis)), x.reshape(rows, x.size // rows))
    if len(shape) > 1:
        # Without an axis on one side coremltools' own inference fails.
        agree("flatten2d", x=x)


@pytest.mark.parametrize(
    ("shape", "target", "opset"),
    [
        ((2, 3, 4), [24], "iOS15"),
        ((2, 3, 4), [-1, 6], "iOS15"),
        ((2, 3, 4), [0, -1, 2], "iOS15"),
        ((2, 3, 4), [4, 0, 2], "iOS15"),
        ((2, 3, 4), [0, 0, 0], "iOS15"),
        ((2, 50), [1, 0, -1, 0], "iOS17"),
        ((2, 3, 4), [0, -1], "iOS17"),
        ((3, 4), [0, 0, 0, 0], "iOS17"),
        ((1,), [1, 1, 1], "iOS17"),
    ],
)
def test_reshape(shape: tuple[int, ...], target: list[int], opset: str) -> None:
    agree("reshape", opset, x=numbers(shape), shape=int32(target))


def test_reshape_to_a_scalar() -> None:
    same(ours("reshape", x=numbers((1, 1)), shape=np.zeros(0, np.int32)), numbers((1, 1)).reshape(()))


def test_reshape_like() -> None:
    x = numbers((6, 10))
    references = (numbers((2, 3, 4)), numbers((1, 2, 5)))
    bounds = {"begins": (int32(0), int32(1)), "ends": (int32(2), int32(0))}
    got = ours("reshape_like", x=x, ref_tensors=references, **bounds, end_masks=(np.bool_(False), np.bool_(True)))
    same(got, x.reshape(2, 3, 2, 5))
    alone = {"begins": int32(-2), "ends": int32(-1), "end_masks": np.bool_(True)}
    same(ours("reshape_like", x=x, ref_tensors=numbers((9, 12, 5)), **alone), x.reshape(12, 5))


@few
@given(shapes(), st.data())
def test_transpose_and_reverse(shape: tuple[int, ...], data: st.DataObject) -> None:
    axes = data.draw(st.permutations(range(len(shape))))
    signed = [axis - len(shape) if data.draw(st.booleans()) else axis for axis in axes]
    agree("transpose", x=numbers(shape), perm=int32(signed))
    agree("reverse", x=numbers(shape), axes=int32(signed[: data.draw(st.integers(1, len(shape)))]))
    agree("reverse", x=numbers(shape))


@few
@given(shapes(2), st.data())
def test_reverse_sequence(shape: tuple[int, ...], data: st.DataObject) -> None:
    batch, seq = data.draw(st.permutations(range(len(shape))))[:2]
    lengths = integers(0, shape[seq] + 1, (shape[batch],))
    x = numbers(shape)
    want = np.moveaxis(x, (batch, seq), (0, 1)).copy()
    for row, length in zip(want, lengths, strict=True):
        row[:length] = row[:length][::-1].copy()
    options = {"seq_axis": int32(seq), "batch_axis": int32(batch)}
    same(ours("reverse_sequence", x=x, lengths=lengths, **options), np.moveaxis(want, (0, 1), (batch, seq)))


def by_blocks(x: Array, rows: int, columns: int) -> Array:
    """(rows, columns, …) of every rows-th row and columns-th column."""
    return np.stack([np.stack([x[..., i::rows, j::columns] for j in range(columns)]) for i in range(rows)])


@few
@given(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(2, 3))
def test_depth_and_space(batch: int, channels: int, height: int, width: int, size: int) -> None:
    x = numbers((batch, channels, height * size, width * size))
    blocks = by_blocks(x, size, size)
    deep = np.concatenate([blocks[i, j] for i in range(size) for j in range(size)], 1)
    same(ours("space_to_depth", x=x, block_size=int32(size)), deep)
    same(ours("depth_to_space", x=deep, block_size=int32(size)), x)
    shuffled = torch.pixel_unshuffle(torch.from_numpy(x), size).numpy()
    same(ours("pixel_unshuffle", x=x, downscale_factor=int32(size)), shuffled)
    same(ours("pixel_shuffle", x=shuffled, upscale_factor=int32(size)), x)


@few
@given(st.integers(1, 2), st.integers(1, 2), st.integers(2, 3), st.integers(1, 3), st.data())
def test_batch_and_space(batch: int, channels: int, rows: int, columns: int, data: st.DataObject) -> None:
    pads = [[data.draw(st.integers(0, 2)) for _ in range(2)] for _ in range(2)]
    height = rows * 3 - sum(pads[0])
    width = columns * 5 - sum(pads[1])
    x = numbers((batch, channels, height, width))
    blocks = by_blocks(np.pad(x, [(0, 0), (0, 0), *pads]), rows, columns)
    want = np.concatenate([blocks[i, j] for i in range(rows) for j in range(columns)], 0)
    block = int32([rows, columns])
    same(ours("space_to_batch", x=x, block_shape=block, paddings=int32(pads)), want)
    same(ours("batch_to_space", x=want, block_shape=block, crops=int32(pads)), x)


@few
@given(shapes(), st.data(), st.integers(1, 3))
def test_sliding_windows(shape: tuple[int, ...], data: st.DataObject, stride: int) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    size = data.draw(st.integers(1, shape[axis]))
    place = axis % len(shape)
    x = numbers(shape)
    starts = range(0, shape[axis] - size + 1, stride)
    want = np.stack([x.take(range(start, start + size), place) for start in starts], place)
    same(ours("sliding_windows", x=x, axis=int32(axis), size=int32(size), stride=int32(stride)), want)
    if stride == 1:
        same(ours("sliding_windows", x=x, axis=int32(axis), size=int32(size)), want)


def test_a_saved_program_of_them(tmp_path: Path) -> None:
    def whole(mb: Any, x: Any, y: Any) -> Any:
        like = mb.reshape_like(x=x, ref_tensors=(y,), begins=(1,), ends=(0,), end_masks=(True,))
        deep = mb.space_to_depth(x=x, block_size=2)
        back = mb.batch_to_space(
            x=mb.space_to_batch(x=x, block_shape=[2, 1], paddings=[[1, 1], [0, 0]]),
            block_shape=[2, 1],
            crops=[[1, 1], [0, 0]],
        )
        turned = mb.transpose(x=mb.expand_dims(x=x, axes=[-1]), perm=[4, -5, 3, 2, 1])
        windows = mb.sliding_windows(x=x, axis=-1, size=3, stride=2)
        shuffled = mb.pixel_shuffle(x=mb.pixel_unshuffle(x=x, downscale_factor=np.uint32(2)), upscale_factor=2)
        return like, deep, back, turned, windows, mb.squeeze(x=mb.reverse(x=x, axes=[3]), axes=[0]), shuffled

    x = numbers((1, 2, 4, 6))
    like, deep, back, turned, windows, mirrored, shuffled = saved(
        whole, {"x": x, "y": numbers((9, 8, 6))}, "iOS16", tmp_path
    )
    same(like, x.reshape(8, 6))
    same(deep, np.concatenate([x[:, :, i::2, j::2] for i in range(2) for j in range(2)], 1))
    same(back, x)
    same(turned, x.transpose(0, 3, 2, 1)[None])
    same(windows, np.stack([x[..., 0:3], x[..., 2:5]], -2))
    same(mirrored, x[0, :, :, ::-1])
    same(shuffled, x)
