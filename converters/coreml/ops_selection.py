"""Where values are, which are largest, which boxes stay."""

from __future__ import annotations

import torch

from .operators import operator


@operator
def non_zero(x: torch.Tensor) -> torch.Tensor:
    """One row of indices for each value that is not 0."""
    return x.nonzero().int()


@operator
def argsort(x: torch.Tensor, axis: torch.Tensor | int = -1, ascending: torch.Tensor | bool = False) -> torch.Tensor:
    """Descending unless told otherwise; equal values stay in order."""
    return x.sort(dim=int(axis), descending=not ascending, stable=True).indices.int()


@operator
def topk(
    x: torch.Tensor,
    *,
    k: torch.Tensor | int = 1,
    axis: torch.Tensor | int = -1,
    ascending: torch.Tensor | bool = False,
    sort: torch.Tensor | bool = True,
    return_indices: torch.Tensor | bool = True,
    output_indices_dtype: str = "int32",
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """The largest, or with `ascending` the smallest; k = -1 takes all. Sorted even where `sort` does not ask for it."""
    along = int(axis)
    count = x.shape[along] if int(k) == -1 else int(k)
    values, indices = x.sort(dim=along, descending=not ascending, stable=True)
    values = values.narrow(along, 0, count)
    return (values, indices.narrow(along, 0, count).int()) if return_indices else values


@operator
def non_maximum_suppression(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    *,
    iou_threshold: torch.Tensor,
    max_boxes: torch.Tensor,
    score_threshold: torch.Tensor | None = None,
    per_class_suppression: torch.Tensor | bool = False,
) -> tuple[torch.Tensor, ...]:
    """iOS 15 has a threshold for scores, boxes before their numbers and a count; iOS 17 has neither, and boxes last.

    Unused places hold 0, and -1 as an index; where no box passes the threshold the best one stays.
    """
    early = score_threshold is not None
    every_box, every_score = (boxes, scores) if early else (boxes.mT, scores.mT)
    count = int(max_boxes)
    batch, _, classes = every_score.shape
    chosen_boxes, chosen_scores = torch.zeros(batch, count, 4), torch.zeros(batch, count, classes)
    indices = torch.full((batch, count), -1, dtype=torch.int32)
    counts = torch.zeros(batch, dtype=torch.int32)
    for i in range(batch):
        best, labels = every_score[i].max(-1)
        keep = _kept(
            every_box[i],
            best,
            labels if per_class_suppression else torch.zeros_like(labels),
            float(iou_threshold),
            None if score_threshold is None else float(score_threshold),
        )[:count]
        chosen_boxes[i, : len(keep)] = every_box[i, keep]
        chosen_scores[i, : len(keep)] = every_score[i, keep]
        indices[i, : len(keep)] = torch.tensor(keep, dtype=torch.int32)
        counts[i] = len(keep)
    if early:
        return chosen_boxes, chosen_scores, indices, counts
    return chosen_boxes.mT, chosen_scores.mT, indices


def _kept(
    boxes: torch.Tensor, scores: torch.Tensor, groups: torch.Tensor, iou_threshold: float, score_threshold: float | None
) -> list[int]:
    """Indices from the best score down; a box goes where a better one of its group overlaps it too much."""
    order = scores.argsort(descending=True, stable=True)
    overlaps = _overlaps(boxes)
    kept: list[int] = []
    for index in order.tolist():
        if score_threshold is not None and not scores[index] > score_threshold:
            break
        rivals = [other for other in kept if groups[other] == groups[index]]
        if not bool((overlaps[index, rivals] > iou_threshold).any()):
            kept.append(index)
    return kept or order[:1].tolist()


def _overlaps(boxes: torch.Tensor) -> torch.Tensor:
    """Intersection over union of every pair of (center x, center y, width, height); without area it is 0."""
    centers, sizes = boxes[:, :2], boxes[:, 2:]
    low, high = centers - sizes / 2, centers + sizes / 2
    both = (torch.minimum(high[:, None], high) - torch.maximum(low[:, None], low)).clamp(min=0).prod(-1)
    areas = sizes.prod(-1)
    return (both / (areas[:, None] + areas - both)).nan_to_num(0)
