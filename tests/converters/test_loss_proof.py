"""The proof at conversion: faults planted into the quantizers, and into what they are given, are refused by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from evit_edge.converters import convert as convert_module
from evit_edge.converters import loss_proof
from evit_edge.converters.calibration import Calibration
from evit_edge.converters.conversion import CONVERTERS, plan
from evit_edge.converters.convert import convert
from evit_edge.converters.coreml import making, metadata
from evit_edge.converters.losses import Grid, Operator, Run, Values
from evit_edge.converters.onnx import int8 as onnx_int8
from evit_edge.converters.onnx import ranges as onnx_ranges
from evit_edge.converters.tflite import int8 as tflite_int8
from evit_edge.converters.tflite import ranges as tflite_ranges
from evit_edge.models.errors import ParityFailed
from evit_edge.models.spec import TensorSpec

from . import losses_faults as faults
from .coreml import tiny
from .in_process import never

Patch = pytest.MonkeyPatch
# A result deep in the network, before its second last convolution.
DEEP = {"onnx": "relu_1", "tflite": "relu_2", "coreml": "input_5_cast_fp16"}
LAYER = {"onnx": ("narrow.weight", "relu_2"), "tflite": ("narrow/weight", "relu_3")}
SUSPECT = {"onnx": "relu_20", "tflite": "stages.2.1.pw2/conv_2d"}
MEASURING: dict[str, tuple[Any, str]] = {
    "onnx": (onnx_ranges, "measure"),
    "tflite": (tflite_ranges, "measure"),
    "coreml": (making, "measure"),
}


def name_of(key: Any) -> str:
    """Of a tensor, or of a value that goes by its name."""
    return key if isinstance(key, str) else str(key.name)


def wrong_range(target: str, factor: float, monkeypatch: Patch) -> None:
    module, function = MEASURING[target]
    measure = getattr(module, function)

    def measured(*arguments: Any, **options: Any) -> dict[Any, tuple[float, float]]:
        found = measure(*arguments, **options)
        (key,) = [key for key in found if name_of(key) == DEEP[target]]
        low, high = found[key]
        return {**found, key: (factor * low, factor * high)}

    monkeypatch.setattr(module, function, measured)


def refused(target: str, folder: Path) -> str:
    with pytest.raises(ParityFailed, match="of the written file is wrong") as caught:
        faults.written(target, folder)
    assert caught.value.exit_code == 5
    assert caught.value.hint == "this is a fault of the converter: take another precision, and report it"
    return caught.value.message


@pytest.mark.parametrize("factor", [16, 1 / 16])
@pytest.mark.parametrize("target", DEEP)
def test_a_wrong_range_of_one_activation_is_refused_by_name(
    target: str, factor: float, monkeypatch: Patch, tmp_path: Path
) -> None:
    wrong_range(target, factor, monkeypatch)
    said = refused(target, tmp_path)
    assert said.startswith(f"{DEEP[target]} (")
    assert ("the integers reach 1" if factor > 1 else "of the values are cut off") in said
    assert ": held " in said


def in_onnx(name: str, edit: faults.Edit, monkeypatch: Patch) -> None:
    quantize = onnx_int8.quantize

    def quantized(*arguments: Any, **options: Any) -> Any:
        from onnx import numpy_helper

        model = quantize(*arguments, **options)
        (scale,) = [tensor for tensor in model.graph.initializer if tensor.name == f"{name}_scale"]
        scale.CopyFrom(numpy_helper.from_array(edit(numpy_helper.to_array(scale)), scale.name))
        return model

    monkeypatch.setattr(onnx_int8, "quantize", quantized)


def in_tflite(name: str, edit: faults.Edit, monkeypatch: Patch) -> None:
    quantize = tflite_int8.quantize

    def quantized(*arguments: Any, **options: Any) -> Any:
        graph = quantize(*arguments, **options)
        (tensor,) = [tensor for tensor in graph.tensors() if tensor.name == name and tensor.scales]
        assert tensor.scales is not None
        tensor.scales = replace(tensor.scales, scale=edit(tensor.scales.scale))
        return graph

    monkeypatch.setattr(tflite_int8, "quantize", quantized)


PLANT = {"onnx": in_onnx, "tflite": in_tflite}


@pytest.mark.parametrize("target", PLANT)
def test_a_wrong_scale_that_the_quantizer_writes_is_refused_by_name(
    target: str, monkeypatch: Patch, tmp_path: Path
) -> None:
    PLANT[target](DEEP[target], faults.times(16), monkeypatch)
    assert refused(target, tmp_path).startswith(f"{DEEP[target]} (")


@pytest.mark.parametrize("target", PLANT)
def test_a_wrong_scale_of_one_channel_of_weights_is_refused_by_name(
    target: str, monkeypatch: Patch, tmp_path: Path
) -> None:
    weights, result = LAYER[target]
    PLANT[target](weights, faults.times(16, channel=5), monkeypatch)
    said = refused(target, tmp_path)
    assert said.startswith(f"{result} (")
    assert f"channel 5 of the weights {weights} has -23.5 dB" in said


def test_a_wrong_scale_of_weights_in_a_package_is_refused_with_the_layer(monkeypatch: Patch, tmp_path: Path) -> None:
    save = metadata.save

    def damaging(model: Any, path: Path) -> None:
        save(model, path)
        if path == tmp_path / "model.mlpackage":
            changed = faults.in_coreml(path, tmp_path, weights=2, edit=faults.times(16, channel=5))
            path.rename(tmp_path / "before.mlpackage")
            changed.rename(path)

    monkeypatch.setattr(metadata, "save", damaging)
    with pytest.raises(ParityFailed, match="the int8 weights of var_45_cast_fp16 are off"):
        faults.written("coreml", tmp_path)


def unscaled(pixels: NDArray[Any]) -> NDArray[np.float32]:
    return pixels[None].transpose(0, 3, 1, 2).astype(np.float32)


@pytest.mark.parametrize("wrong", [unscaled, lambda pixels: unscaled(pixels) / 255], ids=["to 255", "to 1"])
@pytest.mark.parametrize("target", DEEP)
def test_a_calibration_on_images_without_their_normalisation_is_refused_with_the_input(
    target: str, wrong: Callable[[NDArray[Any]], NDArray[np.float32]], monkeypatch: Patch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Calibration, "feeds", lambda self, spec: map(wrong, self.pixels(spec)))
    # In ONNX the first layer is float, and its result the first that has a scale.
    assert refused(target, tmp_path).startswith("conv2d" if target == "onnx" else "image")


def test_an_input_in_integers_has_a_scale_too(monkeypatch: Patch, tmp_path: Path) -> None:
    path = faults.written("tflite", tmp_path, options={"input": "int8"})
    probe = CONVERTERS.load("tflite").probe(faults.MODEL, faults.planned("tflite", options={"input": "int8"}), path)
    assert (probe.operators[0].name, probe.operators[0].kind) == ("image", "INPUT")
    monkeypatch.setattr(Calibration, "feeds", lambda self, spec: map(unscaled, self.pixels(spec)))
    with pytest.raises(ParityFailed, match=r"^image \(INPUT\) of the written file is wrong: the integers reach"):
        faults.written("tflite", tmp_path, options={"input": "int8"})


class Picking(tiny.Network):
    """The best two logits, which are found by their places: numbers that are no floats go from operator to operator."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits = super().forward(image)
        return logits.gather(1, logits.topk(2)[1])


def test_values_that_are_no_floats_are_given_as_they_are(tmp_path: Path) -> None:
    outputs = (TensorSpec(name="best", shape=(None, 2)),)
    conversion = plan(tiny.spec(Picking, outputs=outputs), "onnx", precision="int8", calibration_images=4)
    CONVERTERS.load("onnx").convert(conversion.spec.build(), conversion, path := tmp_path / "model.onnx")
    assert path.exists()


@pytest.mark.slow
def test_nothing_stands_under_the_name_of_what_was_refused(monkeypatch: Patch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent / "crashing")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "crashing"))
    monkeypatch.setenv("WORKER_FAKE", "writes_a_wrong_scale")
    monkeypatch.setattr(convert_module, "WORKER", "worker_fakes")
    conversion = faults.demo("tflite", calibration_images=4)
    with pytest.raises(ParityFailed, match=rf"^{SUSPECT['tflite']} "):
        convert(conversion, tmp_path / "out", execute=never, engine="none")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


class Rising:
    """A probe of one operator, which gives each of `values` for an image."""

    left_out: Sequence[str] = ()
    notes: Sequence[str] = ()

    def __init__(self, values: Sequence[float], *, reach: float) -> None:
        grid = Grid(dtype="int8", low=0.0, high=reach, step=reach / 255)
        self.operators = [Operator(name="y", kind="Conv", arithmetic="int8", grid=grid)]
        self.seen = 0
        self._values = values

    def run(self, feed: NDArray[Any]) -> Run:
        return Run(values=self.alone(feed), outputs=None)

    def alone(self, feed: NDArray[Any]) -> list[Values]:
        values = np.full(4, self._values[self.seen])
        self.seen += 1
        return [Values(meant=values, isolated=values)]


@pytest.mark.parametrize(("values", "seen"), [([1, 1, 1, 1], 2), ([0.01, 0.01, 1, 0.1], 3), ([0.01, 0, 0, 0], 4)])
def test_a_rare_large_value_is_waited_for(values: list[float], seen: int, monkeypatch: Patch) -> None:
    monkeypatch.setattr(loss_proof, "_feeds", lambda conversion: iter([np.zeros(1)] * 4))
    probe = Rising(values, reach=1.0)
    if max(values) == 1:
        loss_proof.prove(probe, faults.planned("onnx"))
    else:
        with pytest.raises(ParityFailed, match=r"y \(Conv\) of the written file is wrong: the integers reach 100 × as"):
            loss_proof.prove(probe, faults.planned("onnx"))
    assert probe.seen == seen


@pytest.mark.parametrize(("method", "passes"), [("minmax", False), ("percentile", True)])
def test_values_that_a_calibration_cuts_off_on_purpose_are_no_fault(
    method: str, passes: bool, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(loss_proof, "_feeds", lambda conversion: iter([np.zeros(1)] * 2))
    meant = np.array([*[0.5] * 199, 100.0])

    class Clipped(Rising):
        def alone(self, feed: NDArray[Any]) -> list[Values]:
            return [Values(meant=meant, isolated=meant.clip(0, 1))]

    conversion = faults.planned("onnx")
    assert conversion.calibration is not None
    conversion = replace(conversion, calibration=replace(conversion.calibration, method=method))
    if passes:
        loss_proof.prove(Clipped([], reach=1.0), conversion)
    else:
        with pytest.raises(ParityFailed, match=r"0\.5% of the values are cut off"):
            loss_proof.prove(Clipped([], reach=1.0), conversion)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "entropy"])
@pytest.mark.parametrize("target", CONVERTERS.names())
def test_no_way_to_calibrate_is_refused(target: str, method: str, tmp_path: Path) -> None:
    conversion = faults.demo(target, calibration_images=16, calibration_method=method)
    path = tmp_path / f"model.{CONVERTERS.load(target).suffix}"
    CONVERTERS.load(target).convert(conversion.spec.build(), conversion, path)
    assert path.exists()


@pytest.mark.slow
@pytest.mark.parametrize("factor", [16, 1 / 16])
@pytest.mark.parametrize("target", SUSPECT)
def test_a_wrong_scale_deep_in_efficientvit_is_refused_by_name(
    target: str, factor: float, monkeypatch: Patch, tmp_path: Path
) -> None:
    PLANT[target](SUSPECT[target], faults.times(factor), monkeypatch)
    conversion = faults.demo(target, calibration_images=4)
    with pytest.raises(ParityFailed, match=SUSPECT[target]):
        CONVERTERS.load(target).convert(conversion.spec.build(), conversion, tmp_path / "model")
