"""Any operators in int8 and the others float, in ONNX and TFLite: the answers that the choice of `mixed` rests on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from evit_edge.converters import adjustment, mixed
from evit_edge.converters.conversion import CONVERTERS, Conversion, plan
from evit_edge.converters.inspection import is_met
from evit_edge.converters.mixed import Mixable, decibels, noise
from evit_edge.converters.onnx import ranges
from evit_edge.converters.onnx.engine import fused, session
from evit_edge.converters.onnx.mixing import OnnxMixable
from evit_edge.converters.tflite import direct
from evit_edge.models.errors import PrecisionNotMet, Unsupported
from evit_edge.models.spec import ModelSpec

from .coreml import tiny
from .losses_faults import unadjusted

TARGETS = ("onnx", "tflite")
IMAGES = 32
NOTHING: Mapping[str, Any] = {}

Array = NDArray[Any]


@cache
def spec() -> ModelSpec:
    return tiny.spec()


def planned(target: str, precision: str = "mixed", options: Mapping[str, Any] = NOTHING) -> Conversion:
    return plan(spec(), target, precision=precision, options=options, calibration_images=IMAGES)


def written(conversion: Conversion, folder: Path) -> tuple[Path, list[str]]:
    converter = CONVERTERS.load(conversion.target)
    path = folder / f"model.{converter.suffix}"
    return path, list(converter.convert(spec().build(), conversion, path))


def answers(path: Path) -> Array:
    """Of the trial images, by the engine that users have."""
    feeds = mixed.trials(planned("onnx"))
    if path.suffix == ".onnx":
        running = session(path.read_bytes())
        return np.concatenate([running.run(None, {"image": feed})[0] for feed in feeds])
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for feed in feeds:
        interpreter.set_tensor(taken["index"], feed.transpose(0, 2, 3, 1))
        interpreter.invoke()
        found.append(interpreter.get_tensor(given["index"]))
    return np.concatenate(found)


@cache
def original() -> Array:
    return np.concatenate([tiny.answers(spec(), feed) for feed in mixed.trials(planned("onnx"))])


@pytest.fixture(scope="module", params=TARGETS)
def form(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mixable:
    conversion = planned(request.param)
    if request.param == "onnx":
        path, _ = written(plan(spec(), "onnx"), tmp_path_factory.mktemp("float"))
        ready = fused(onnx.load(path))
        found = ranges.measure(ready, conversion.calibration_feeds())
        return OnnxMixable(ready, found, "x86-vnni", mixed.trials(conversion))
    caught: list[Mixable] = []

    def catch(form: Mixable) -> Collection[str]:
        caught.append(form)
        return ()

    shape = (1, *spec().inputs[0].shape[1:])
    feeds, trials = conversion.calibration_feeds, mixed.trials(conversion)
    direct.graph_of(spec().build(), shape, precision="mixed", feeds=feeds, trials=trials, choose=catch)
    return caught[0]


def test_without_an_operator_in_int8_the_answers_are_the_model_s(form: Mixable) -> None:
    np.testing.assert_allclose(form.answers(()), original(), rtol=1e-4, atol=1e-4)


def test_each_operator_costs_something_and_all_cost_most(form: Mixable) -> None:
    alone = {name: noise(original(), form.answers({name})) for name in form.macs}
    everything = noise(original(), form.answers(form.macs))
    assert len(alone) >= 4
    assert all(1e-7 < cost < 1e-2 for cost in alone.values())
    assert max(alone.values()) < 2 * everything


def test_macs_are_those_of_the_network(form: Mixable) -> None:
    places = (tiny.SIZE // 2) ** 2
    layers = [3 * 9 * 16, 9 * 16, 16 * 256, 256 * 64]
    assert sum(form.macs.values()) + form.float_macs == places * sum(layers) + 64 * len(tiny.LABELS)


@pytest.mark.parametrize("target", TARGETS)
def test_the_file_holds_what_was_chosen_and_answers_so(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Mixable, mixed.Choice]] = []
    choose = mixed.choose

    def spying(form: Mixable, *arguments: Any, **options: Any) -> mixed.Choice:
        seen.append((form, choose(form, *arguments, **options)))
        return seen[0][1]

    monkeypatch.setattr(mixed, "choose", spying)
    # That takes so much of this network's noise away that nothing is left to choose.
    monkeypatch.setattr(adjustment, "adjust", unadjusted)
    path, notes = written(planned(target, options={"min-int8-macs": 0.6}), tmp_path)
    ((_, choice),) = seen
    assert choice.kept
    assert [note for note in notes if note in choice.notes] == choice.notes
    found = CONVERTERS.load(target).inspect(path)
    assert found.int8_share == pytest.approx(choice.int8_share, abs=1e-6)
    assert 0.6 <= found.int8_share < 1
    assert is_met("mixed", found.precision)
    mixed_db = decibels(noise(original(), answers(path)))
    assert mixed_db == pytest.approx(choice.db, abs=4)
    plain, _ = written(planned(target, "int8"), tmp_path)
    assert mixed_db > decibels(noise(original(), answers(plain))) + 1


@pytest.mark.parametrize("target", TARGETS)
def test_without_a_budget_nothing_that_multiplies_becomes_float(target: str, tmp_path: Path) -> None:
    (tmp_path / "mixed").mkdir()
    plain, _ = written(planned(target, "int8"), tmp_path)
    most = CONVERTERS.load(target).inspect(plain).int8_share
    path, _ = written(planned(target, options={"min-int8-macs": most}), tmp_path / "mixed")
    assert CONVERTERS.load(target).inspect(path).int8_share == most
    assert noise(original(), answers(path)) <= noise(original(), answers(plain))


@pytest.mark.parametrize("target", TARGETS)
def test_a_drop_that_cannot_be_kept_is_refused(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixed._Search, "_changed", lambda *_: 0.25)
    with pytest.raises(PrecisionNotMet, match=r"25.0% of the images"):
        written(planned(target, options={"max-drop": 0.5}), tmp_path)


@pytest.mark.parametrize("target", [*TARGETS, "coreml"])
@pytest.mark.parametrize(
    ("precision", "options", "said"),
    [
        ("int8", {"max-drop": 1.0}, "--max-drop means nothing to int8"),
        ("mixed", {"min-int8-macs": 0.3}, "--min-int8-macs 30% is not possible"),
        ("mixed", {"min-int8-macs": 1.1}, "--min-int8-macs 110% is not possible"),
        ("mixed", {"max-drop": -1.0}, "--max-drop -1 is not possible"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(target: str, precision: str, options: dict[str, float], said: str) -> None:
    with pytest.raises(Unsupported, match=said):
        planned(target, precision, options)


def test_onnx2tf_has_no_mixed() -> None:
    with pytest.raises(Unsupported, match="onnx2tf cannot leave some operators in float"):
        planned("tflite", options={"via": "onnx2tf"})
