"""Int8 for some operators: what is simulated is what the package written for them answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from evit_edge.converters import mixed, to_coreml
from evit_edge.converters.conversion import CONVERTERS, Conversion, plan
from evit_edge.converters.coreml import inspection, int8, making, metadata
from evit_edge.converters.coreml.executor import Executor
from evit_edge.converters.coreml.mixing import CoremlMixable
from evit_edge.converters.coreml.program import Program, load
from evit_edge.converters.coreml.ranges import measure
from evit_edge.models.errors import PrecisionNotMet, Unsupported
from evit_edge.models.spec import ModelSpec

from . import tiny

COUNT = 4


class Branches(nn.Module):
    """What is read by several, and what several share: a residual sum, a pool, and one convolution used twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.again = nn.Conv2d(16, 16, 3, padding=1)
        self.left = nn.Conv2d(16, 16, 1)
        self.right = nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(16, len(tiny.LABELS))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.stem(image)), 2)
        x = x + self.again(torch.relu(self.again(x)))
        y = self.left(x)
        x = y + torch.relu(self.right(torch.sigmoid(y)))
        return 10 * self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A network's float program, its int8 package, the form for the search, and what writes it with some kept."""

    floating: Program
    quantized: Program
    form: CoremlMixable
    write: Callable[[set[str]], Program]
    images: np.ndarray[Any, np.dtype[np.float32]]

    def answers(self, program: Program) -> np.ndarray[Any, Any]:
        """What a written program itself answers."""
        found: np.ndarray[Any, Any] = Executor(program).run({"image": self.images})["logits"].numpy()
        return found


def planned(of: ModelSpec, **own: Any) -> Conversion:
    return plan(of, "coreml", **{"precision": "mixed", "batch": None, "calibration_images": COUNT, **own})


def made(of: ModelSpec, folder: Path) -> Made:
    conversion = planned(of)
    floating = making.make_floating(
        of.build(),
        conversion,
        to_coreml._form(conversion),
        tensors=lambda path: CONVERTERS.load("coreml").tensors_of(conversion, path),
    )
    images = tiny.images(of, COUNT)
    ranges = measure(floating.program, [{"image": images}], rounding=False)

    def write(kept: set[str]) -> Program:
        path = folder / f"{len(list(folder.iterdir()))}.mlpackage"
        metadata.save(int8.quantize(floating.model, floating.program, ranges, kept=kept), path)
        return load(path)

    quantized = write(set())
    form = CoremlMixable(floating.program, quantized, [{"image": images}])
    return Made(floating=floating.program, quantized=quantized, form=form, write=write, images=images)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made(tiny.spec(), tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def branches(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made(tiny.spec(Branches), tmp_path_factory.mktemp("branches"))


def arithmetic(program: Program) -> dict[str, tuple[str, str]]:
    return {layer.name: (layer.arithmetic, layer.weight_dtype) for layer in inspection.layers(program)}


def test_without_int8_it_is_the_float_program(network: Made) -> None:
    assert np.array_equal(network.form.answers(()), network.answers(network.floating))


@pytest.mark.parametrize("name", ["network", "branches"])
def test_all_in_int8_it_is_the_int8_package(name: str, request: pytest.FixtureRequest) -> None:
    found: Made = request.getfixturevalue(name)
    assert np.array_equal(found.form.answers(found.form.macs), found.answers(found.quantized))


@pytest.mark.parametrize("name", ["network", "branches"])
def test_a_kept_operator_is_float_in_the_package_and_answers_as_simulated(
    name: str, request: pytest.FixtureRequest
) -> None:
    found: Made = request.getfixturevalue(name)
    whole = arithmetic(found.quantized)
    for kept in found.form.macs:
        written = found.write({kept})
        floats = int8.together(found.floating, [kept])
        assert arithmetic(written) == {**whole, **dict.fromkeys(floats, ("float16", "float16"))}
        assert np.array_equal(found.form.answers(found.form.macs.keys() - {kept}), found.answers(written))


@pytest.mark.parametrize("name", ["network", "branches"])
def test_an_operator_alone_in_int8_answers_as_simulated(name: str, request: pytest.FixtureRequest) -> None:
    found: Made = request.getfixturevalue(name)
    meant, whole = found.form.answers(()), found.form.answers(found.form.macs)
    for alone in found.form.macs:
        simulated = found.form.answers([alone])
        assert 0 < mixed.noise(meant, simulated) < 2 * mixed.noise(meant, whole)
        assert np.array_equal(simulated, found.answers(found.write(found.form.macs.keys() - {alone})))


def test_macs_are_those_of_the_layers_that_int8_takes(network: Made) -> None:
    form = network.form
    outside = tiny.SIZE // 2 * tiny.SIZE // 2
    assert list(form.macs.values()) == [
        outside * 16 * 3 * 9,
        outside * 256 * 16,
        outside * 64 * 256,
        64 * len(tiny.LABELS),
    ]
    assert form.float_macs == outside * 16 * 9


def test_operators_with_the_same_weights_are_one(branches: Made) -> None:
    form = branches.form
    assert len(form.macs) == len(arithmetic(branches.floating)) - 1
    inside = tiny.SIZE // 4 * tiny.SIZE // 4
    assert 2 * inside * 16 * 16 * 9 in form.macs.values()


@pytest.mark.parametrize("batch", [None, 1, 2])
def test_mixed_keeps_the_budget_and_says_what_stays_float(batch: int | None, tmp_path: Path) -> None:
    conversion = planned(tiny.spec(), batch=batch, options={"min-int8-macs": 0.97})
    path = tmp_path / "model.mlpackage"
    notes = CONVERTERS.load("coreml").convert(conversion.spec.build(), conversion, path)
    layers = [*inspection.layers(load(path))]
    floats = [layer.name for layer in layers if layer.arithmetic == "float16"]
    # The depthwise layer is float at int8 too.
    assert {note.split()[2] for note in notes if note.startswith("in float:")} == set(floats) - {layers[1].name}
    integer = sum(layer.macs for layer in layers if layer.arithmetic == "int8")
    assert len(floats) > 1
    assert integer >= 0.97 * sum(layer.macs for layer in layers)


def test_a_classifier_counts_by_its_probabilities(tmp_path: Path) -> None:
    options = {"output": "classifier", "input": "image"}
    conversion = planned(tiny.spec(), batch=1, options=options)
    notes = CONVERTERS.load("coreml").convert(conversion.spec.build(), conversion, tmp_path / "model.mlpackage")
    assert any(note.startswith("mixed: ") for note in notes)


def test_a_share_that_cannot_be_is_refused(tmp_path: Path) -> None:
    conversion = planned(tiny.spec(), options={"min-int8-macs": 0.999})
    with pytest.raises(PrecisionNotMet, match="can be int8"):
        CONVERTERS.load("coreml").convert(conversion.spec.build(), conversion, tmp_path / "model.mlpackage")


def test_other_precisions_have_no_budget() -> None:
    with pytest.raises(Unsupported, match="means nothing to int8"):
        planned(tiny.spec(), precision="int8", options={"min-int8-macs": 0.5})
