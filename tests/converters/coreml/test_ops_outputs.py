"""A classifier gives the label and every label's probability, from a saved package too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from evit_edge.converters.coreml import program as programs
from evit_edge.converters.coreml.executor import Executor

from . import mil
from .calling import float32, ours


def test_classify_takes_the_first_of_equals_and_keeps_the_order() -> None:
    label, values = ours("classify", probabilities=float32([[0.25, 0.5, 0.5]]), classes=("z", "b", "a"))
    assert label == "b"
    assert list(values.items()) == [("z", 0.25), ("b", 0.5), ("a", 0.5)]


def test_classify_needs_a_label_for_each_value() -> None:
    with pytest.raises(ValueError, match="argument 2 is longer"):
        ours("classify", probabilities=float32([0.25, 0.5, 0.5]), classes=("a", "b"))


@pytest.mark.parametrize("labels", [["cat", "dog", "two words"], [3, 5, 7]], ids=["strings", "numbers"])
@pytest.mark.parametrize("target", ["iOS15", "iOS16", "iOS18"])
def test_a_saved_classifier(target: str, labels: list[Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 3), nn.Softmax(1)).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)
    x = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32))
    with mil.quiet():
        import coremltools as ct

        path = tmp_path / "model.mlpackage"
        ct.convert(
            torch.jit.trace(model, x),
            inputs=[ct.ImageType(name="image", shape=tuple(x.shape), scale=1 / 255)],
            classifier_config=ct.ClassifierConfig(labels),
            convert_to="mlprogram",
            minimum_deployment_target=getattr(ct.target, target),
            skip_model_load=True,
        ).save(str(path))
    program = programs.load(path)
    with torch.no_grad():
        want = model(x / 255).flatten().tolist()
    for rounding in (True, False):
        results = Executor(program, rounding=rounding).run({"image": pixels})
        assert results["classLabel"] == str(labels[int(np.argmax(want))])
        probabilities = results["classLabel_probs"]
        assert list(probabilities) == [str(label) for label in labels]
        np.testing.assert_allclose(list(probabilities.values()), want, atol=2e-3)
    assert program.probabilities == "classLabel_probs"
    assert [feature.kind for feature in program.outputs] == ["string", "dictionary"]
