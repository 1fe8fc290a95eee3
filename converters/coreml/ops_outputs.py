"""What a classifier gives."""

from __future__ import annotations

import torch

from .operators import operator


@operator
def classify(probabilities: torch.Tensor, classes: tuple[str, ...]) -> tuple[str, dict[str, float]]:
    """The label of the largest value (the first of equals), and every label's value in the order of the classes."""
    values = probabilities.flatten()
    return classes[int(values.argmax())], dict(zip(classes, values.tolist(), strict=True))
