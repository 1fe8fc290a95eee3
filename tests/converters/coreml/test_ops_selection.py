"""Sorting, finding and suppressing, against coremltools' value inference or a definition in NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .calling import Array, agree, float32, int32, integers, numbers, ours, same, saved, shapes

few = settings(max_examples=25, deadline=None)


@few
@given(shapes())
def test_non_zero(shape: tuple[int, ...]) -> None:
    agree("non_zero", x=integers(-1, 2, shape))
    agree("non_zero", x=integers(-1, 2, shape) > 0)


@few
@given(shapes(), st.data(), st.booleans())
def test_argsort(shape: tuple[int, ...], data: st.DataObject, ascending: bool) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    agree("argsort", x=numbers(shape), axis=int32(axis), ascending=np.bool_(ascending))
    agree("argsort", x=numbers(shape))


@pytest.mark.parametrize("ascending", [False, True])
def test_equal_values_stay_in_order(ascending: bool) -> None:
    x = integers(0, 3, (200,))
    want = np.argsort(x if ascending else -x, kind="stable")
    same(ours("argsort", x=x, ascending=np.bool_(ascending)), want)
    same(ours("topk", x=x, k=int32(9), ascending=np.bool_(ascending)), (x[want[:9]], want[:9]))


@few
@given(shapes(), st.data(), st.booleans(), st.booleans())
def test_topk(shape: tuple[int, ...], data: st.DataObject, ascending: bool, indices: bool) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    k = data.draw(st.integers(1, shape[axis]))
    options = {"k": int32(k), "axis": int32(axis), "ascending": np.bool_(ascending)}
    agree("topk", "iOS15", x=numbers(shape), **options)
    agree("topk", "iOS17", x=numbers(shape), **options, return_indices=np.bool_(indices), sort=np.bool_(True))
    agree("topk", "iOS15", x=integers(-9999, 9999, shape))


def test_topk_of_minus_1_takes_all() -> None:
    x = numbers((3, 5))
    same(ours("topk", x=x, k=int32(-1), axis=int32(0))[0], -np.sort(-x, 0))


def test_topk_in_saved_programs(tmp_path: Path) -> None:
    x = numbers((2, 7))
    want = np.argsort(-x, 1)[:, :3]

    def early(mb: Any, x: Any) -> Any:
        return mb.topk(x=x, k=3, axis=1)

    def late(mb: Any, x: Any) -> Any:
        values, indices = mb.topk(x=x, k=3, axis=1, output_indices_dtype="uint16")
        alone = mb.topk(x=x, k=3, axis=1, return_indices=False)
        return values, mb.cast(x=indices, dtype="int32"), mb.add(x=alone, y=1.0)

    same(saved(early, {"x": x}, "iOS15", tmp_path), (np.take_along_axis(x, want, 1), want))
    values, indices, alone = saved(late, {"x": x}, "iOS17", tmp_path / "late")
    same((values, indices), (np.take_along_axis(x, want, 1), want))
    same(alone, values + 1)


def overlap(left: Array, right: Array) -> float:
    sides = []
    for axis in (0, 1):
        low = max(left[axis] - left[axis + 2] / 2, right[axis] - right[axis + 2] / 2)
        high = min(left[axis] + left[axis + 2] / 2, right[axis] + right[axis + 2] / 2)
        sides.append(max(0.0, float(high - low)))
    both = sides[0] * sides[1]
    return both / float(left[2] * left[3] + right[2] * right[3] - both)


def suppressed(boxes: Array, scores: Array, most: float, least: float, per_class: bool) -> list[int]:
    """The indices that stay, found by striking out, class by class."""
    best, kind = scores.max(1), scores.argmax(1) * per_class
    alive = set(np.flatnonzero(best > least).tolist())
    stay = []
    while alive:
        first = max(alive, key=lambda i: best[i])
        stay.append(first)
        alive -= {i for i in alive if kind[i] == kind[first] and overlap(boxes[i], boxes[first]) > most} | {first}
    return stay or [int(best.argmax())]


@few
@given(
    st.integers(0, 999),
    st.integers(1, 12),
    st.integers(1, 3),
    st.integers(1, 14),
    st.sampled_from([0.05, 0.3, 0.8]),
    st.sampled_from([-9.0, 0.2, 99.0]),
    st.booleans(),
)
def test_non_maximum_suppression(
    seed: int, boxes: int, classes: int, most: int, iou: float, threshold: float, per_class: bool
) -> None:
    generator = np.random.default_rng(seed)
    centers, sides = generator.random((2, boxes, 2)) * 10, generator.random((2, boxes, 2)) * 6 + 0.5
    where = np.concatenate([centers, sides], 2).astype(np.float32)
    scores = generator.standard_normal((2, boxes, classes)).astype(np.float32)
    limits: dict[str, Any] = {"iou_threshold": float32(iou), "max_boxes": int32(most)}
    limits["per_class_suppression"] = np.bool_(per_class)
    early = ours("non_maximum_suppression", boxes=where, scores=scores, score_threshold=float32(threshold), **limits)
    late = ours("non_maximum_suppression", boxes=where.swapaxes(1, 2), scores=scores.swapaxes(1, 2), **limits)
    for i in range(2):
        for results, least in ((early, threshold), (late, -np.inf)):
            stay = suppressed(where[i], scores[i], iou, least, per_class)[:most]
            empty = most - len(stay)
            chosen_boxes, chosen_scores = (r[i] if results is early else r[i].T for r in results[:2])
            same(chosen_boxes, np.pad(where[i][stay], [(0, empty), (0, 0)]))
            same(chosen_scores, np.pad(scores[i][stay], [(0, empty), (0, 0)]))
            same(results[2][i], np.pad(stay, (0, empty), constant_values=-1))
        same(early[3][i], len(suppressed(where[i], scores[i], iou, threshold, per_class)[:most]))


def test_suppression_as_in_the_tests_of_coremltools(tmp_path: Path) -> None:
    boxes = float32([[[0] * 4, [1] * 4, [2] * 4, [3] * 4]])
    scores = float32([[[-3.5], [9.4], [2.3], [0.7]]])

    def early(mb: Any, boxes: Any, scores: Any) -> Any:
        return mb.non_maximum_suppression(
            boxes=boxes, scores=scores, iou_threshold=0.2, score_threshold=0.4, max_boxes=2, per_class_suppression=True
        )

    def late(mb: Any, boxes: Any, scores: Any) -> Any:
        return mb.non_maximum_suppression(boxes=boxes, scores=scores, iou_threshold=0.2, max_boxes=2)

    want = (boxes[:, 1:3], scores[:, 1:3], int32([[1, 2]]), int32([2]))
    same(saved(early, {"boxes": boxes, "scores": scores}, "iOS15", tmp_path), want)
    turned = {"boxes": boxes.swapaxes(1, 2).copy(), "scores": scores.swapaxes(1, 2).copy()}
    got = saved(late, turned, "iOS17", tmp_path / "late")
    same(got, (want[0].swapaxes(1, 2), want[1].swapaxes(1, 2), want[2]))
