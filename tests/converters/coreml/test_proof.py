"""The proof that stands before every compression: a faithful program passes, a changed one does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from evit_edge.converters.artifact import Normalisation, TensorRecord
from evit_edge.converters.conversion import CONVERTERS, Conversion
from evit_edge.converters.coreml import making
from evit_edge.converters.coreml.program import load
from evit_edge.converters.coreml.proof import COUNT, fitted, prove
from evit_edge.models.errors import ParityFailed
from evit_edge.models.spec import TensorSpec

from . import tiny
from .tiny import LABELS, planned, spec, written

CONVERTER = CONVERTERS.load("coreml")


def proven(conversion: Conversion, folder: Path, reference: nn.Module | None = None) -> None:
    """Prove the package of a conversion against the spec's own module, or another."""
    path = written(conversion, folder)
    (taken,), given = CONVERTER.tensors_of(conversion, path)
    module = reference or conversion.spec.build()
    prove(load(path), module, conversion.proof_feeds(COUNT), taken=taken, given=given)


def twins() -> Any:
    outputs = tuple(TensorSpec(name=name, shape=(None, size)) for name, size in (("twice", len(LABELS)), ("alone", 2)))
    return spec(build=tiny.Twins, outputs=outputs)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"batch": 4},
        {"batch": None},
        {"input": "image"},
        {"output": "classifier"},
        {"input": "image", "output": "classifier"},
        {"of": twins()},
        {"precision": "fp32"},
    ],
    ids=str,
)
def test_a_faithful_program_passes_in_every_form(tmp_path: Path, asked: dict[str, Any]) -> None:
    proven(planned(**asked), tmp_path)


def changed(change: Callable[[tiny.Network], None]) -> nn.Module:
    module = spec().build()
    assert isinstance(module, tiny.Network)
    with torch.no_grad():
        change(module)
    return module


def swap_channels(module: tiny.Network) -> None:
    module.stem.weight.copy_(module.stem.weight.flip(1))


def swap_classes(module: tiny.Network) -> None:
    module.head.weight.copy_(module.head.weight.roll(1, 0))


def scale(module: tiny.Network) -> None:
    # The direction is right: a cosine alone would let it pass.
    module.head.weight.mul_(1.05)
    assert module.head.bias is not None
    module.head.bias.mul_(1.05)


@pytest.mark.parametrize("change", [swap_channels, swap_classes, scale])
@pytest.mark.parametrize("output", ["logits", "classifier"])
def test_a_program_of_something_else_fails(tmp_path: Path, change: Callable[[tiny.Network], None], output: str) -> None:
    with pytest.raises(ParityFailed, match="the float program to be compressed is off by a relative L2 of") as caught:
        proven(planned(output=output), tmp_path, changed(change))
    assert "try --precision fp32" in caught.value.hint


def test_a_fault_of_the_leaner_form_stops_a_compression(tmp_path: Path) -> None:
    faulty = spec(deploy_channels=lambda module: changed(swap_channels))
    with pytest.raises(ParityFailed, match="the float program"):
        CONVERTER.convert(faulty.build(), planned("w8", of=faulty), tmp_path / "model.mlpackage")
    assert list(tmp_path.iterdir()) == []


def test_a_float_program_is_left_to_the_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the gate does the same")

    monkeypatch.setattr(making, "prove", never)
    written(planned("fp16"), tmp_path)
    with pytest.raises(AssertionError, match="the gate"):
        written(planned("w8"), tmp_path / "w8")


def test_a_sample_is_as_often_there_as_the_file_wants_it() -> None:
    feed = np.arange(3 * 2 * 2, dtype=np.float32).reshape(1, 3, 2, 2)
    for batch, count in ((1, 1), (None, 1), (4, 4)):
        record = TensorRecord(name="image", shape=(batch, 3, 2, 2), dtype="float32")
        np.testing.assert_array_equal(fitted(record, feed), np.concatenate([feed] * count))
    normalisation = Normalisation(mean=(0, 0, 0), std=(1, 1, 1))
    image = TensorRecord(name="image", shape=(1, 2, 2, 3), dtype="uint8", layout="nhwc", normalisation=normalisation)
    np.testing.assert_array_equal(fitted(image, feed / 255), feed.astype(np.uint8).transpose(0, 2, 3, 1))
