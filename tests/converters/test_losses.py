"""What quantization costs where: figures that can be worked out by hand, and saved files with one scale changed."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from evit_edge.converters import adjustment, losses, mixed
from evit_edge.converters.conversion import CONVERTERS
from evit_edge.converters.loss_meter import measure
from evit_edge.converters.losses import Factor, Grid, Loss, Operator, Run, Values, sqnr_db, worst
from evit_edge.converters.mixed import Budget, Choice, Kept, Mixable
from evit_edge.converters.tflite import flatbuffer
from evit_edge.models.errors import BadArtifact, Unsupported

from . import losses_faults as faults
from .losses_faults import Edit, times

CONVOLUTIONS = ("Conv", "conv", "CONV_2D", "DEPTHWISE_CONV_2D")
TARGETS = ("onnx", "tflite", "coreml")
FEED = np.zeros((1, 3, 2, 2), np.float32)


class Given:
    """A probe that gives the same values for every image."""

    left_out: Sequence[str] = ("lost",)
    notes: Sequence[str] = ("said",)

    def __init__(self, operator: Operator, values: Values) -> None:
        self.operators = [operator]
        self._values = values

    def run(self, feed: NDArray[np.float32]) -> Run:
        return Run(values=[self._values], outputs=[np.array([[1.0, 2.0]])])

    def alone(self, feed: NDArray[np.float32]) -> list[Values]:
        return [replace(self._values, found=None)]


def measured(operator: Operator, meant: list[float], isolated: list[float], found: list[float]) -> losses.Losses:
    values = Values(meant=np.array(meant), isolated=np.array(isolated), found=np.array(found))
    return measure(Given(operator, values), [FEED, FEED], lambda feed: [np.array([[1.0, 2.0]])])


@given(signal=st.floats(1e-6, 1e6), noise=st.floats(1e-6, 1e6))
def test_sqnr_is_ten_for_each_power_of_ten(signal: float, noise: float) -> None:
    assert sqnr_db(10 * signal, noise) == pytest.approx(10 + sqnr_db(signal, noise), abs=1e-6)
    assert sqnr_db(signal, signal) == pytest.approx(0)


def test_sqnr_has_ends() -> None:
    assert sqnr_db(1, 0) == sqnr_db(0, 0) == math.inf
    assert sqnr_db(0, 1) == sqnr_db(1, math.nan) == sqnr_db(1, math.inf) == -math.inf


def test_the_figures_are_those_of_all_elements_of_all_images() -> None:
    grid = Grid(dtype="int8", low=-1.0, high=1.0, step=0.5)
    report = measured(
        Operator(name="y", kind="Conv", arithmetic="int8", grid=grid), [3, 1, 1, 1], [3, 1, 1, 0], [0] * 4
    )
    (loss,) = report.operators
    assert (report.images, report.left_out, report.notes) == (2, ("lost",), ("said",))
    assert loss.isolated_db == pytest.approx(10 * math.log10(12))
    assert loss.propagated_db == pytest.approx(0)
    assert (loss.seen, loss.held, loss.clipped) == ((1, 3), (-1, 1), 0.25)
    assert report.output is not None
    assert (report.output.sqnr_db, report.output.agreeing) == (math.inf, 2)


def test_what_moves_integers_loses_nothing_by_itself() -> None:
    (loss,) = measured(Operator(name="y", kind="Reshape", arithmetic="int8", moves=True), [1], [0], [0]).operators
    assert (loss.isolated_db, loss.propagated_db) == (math.inf, 0)


def test_weights_are_judged_by_channel_and_dead_channels_are_not() -> None:
    meant = np.array([[1.0, 1.0], [1.0, 1.0], [1e-5, 0.0]])
    found = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    factor = Factor(name="w", dtype="int8", meant=meant, found=found, axis=0)
    (loss,) = measured(Operator(name="y", kind="Conv", arithmetic="float32", factor=factor), [1], [1], [1]).operators
    assert loss.weight is not None
    assert loss.weight.worst_channel == 1
    assert loss.weight.worst_channel_db == pytest.approx(10 * math.log10(2))
    assert loss.weight.sqnr_db == pytest.approx(10 * math.log10(4), abs=1e-6)
    assert loss.suspicious


def test_integers_that_reach_far_beyond_the_values_are_suspicious() -> None:
    def loss(reach: float) -> Loss:
        grid = Grid(dtype="int8", low=-reach, high=reach, step=reach / 128)
        return measured(
            Operator(name="y", kind="Conv", arithmetic="int8", grid=grid), [-1, 1], [-1, 1], [-1, 1]
        ).operators[0]

    assert not loss(4).suspicious
    assert loss(16).suspicious
    assert "16 ×" in loss(16).remark


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {target: faults.written(target, tmp_path_factory.mktemp(target)) for target in TARGETS}


def copied(path: Path, folder: Path) -> Path:
    return Path(shutil.copytree(path, folder / path.name) if path.is_dir() else shutil.copy(path, folder))


@pytest.mark.parametrize("target", TARGETS)
def test_an_honest_file_loses_little_everywhere_and_nothing_is_left_out(target: str, files: dict[str, Path]) -> None:
    report = faults.measured(target, files[target])
    assert report.left_out == report.notes == ()
    assert not [loss.name for loss in report.operators if loss.suspicious]
    assert min(loss.isolated_db for loss in report.operators) > 30
    assert report.output is not None
    assert report.output.sqnr_db > 30
    assert report.output.agreeing == faults.IMAGES
    layers = [loss.weight for loss in report.operators if loss.weight]
    assert len(layers) >= 4
    assert min(weight.worst_channel_db for weight in layers) > 40
    assert len(report.pictures) == min(losses.WORST, len(report.operators))


@pytest.mark.parametrize(
    ("target", "precision"), [("onnx", "w8"), ("tflite", "w8"), ("tflite", "fp16"), ("coreml", "w8")]
)
def test_compressed_weights_are_charged_to_their_layers(target: str, precision: str, tmp_path: Path) -> None:
    report = faults.measured(target, faults.written(target, tmp_path, precision), precision)
    layers = [loss for loss in report.operators if loss.weight]
    assert layers
    # Core ML's other operators round to float16.
    others = [loss.isolated_db for loss in report.operators if not loss.weight]
    assert min(others) >= 70
    assert all(40 < loss.isolated_db < 85 for loss in layers)
    assert all(loss.held is None and loss.arithmetic.startswith("float") for loss in report.operators)


@pytest.mark.parametrize("target", TARGETS)
def test_what_stayed_float_in_a_mixed_file_is_float_in_the_report(
    target: str, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def choose(form: Mixable, budget: Budget, **options: object) -> Choice:
        # The largest layer but one: the file has to stay int8 for the most part.
        name = sorted(form.macs, key=lambda each: form.macs[each])[-2]
        kept = Kept(name=name, share=0.1, alone_db=30, before_db=30, after_db=31)
        return Choice(kept=(kept,), int8_share=0.6, plain_db=30, db=31, changed=0, alone_db={name: 30})

    monkeypatch.setattr(mixed, "choose", choose)
    monkeypatch.setattr(adjustment, "adjust", faults.unadjusted)
    path = faults.written(target, tmp_path, "mixed", {"min-int8-macs": 0.5})
    report, before = faults.measured(target, path, "mixed"), faults.measured(target, files[target])
    assert not [loss.remark for loss in report.operators if loss.suspicious]
    layers, before_layers = ([loss for loss in each.operators if loss.weight] for each in (report, before))
    assert len(layers) == len(before_layers) - 1
    floats, before_floats = (
        [loss for loss in each.operators if loss.kind in CONVOLUTIONS and loss.arithmetic.startswith("float")]
        for each in (report, before)
    )
    assert len(floats) == len(before_floats) + 1
    assert all(loss.held is None and loss.isolated_db > 60 for loss in floats)


ACTIVATION = {"onnx": "relu_1", "tflite": "relu_2", "coreml": "input_5_cast_fp16"}
LAYER = {"onnx": ("narrow.weight", "relu_2"), "tflite": ("narrow/weight", "relu_3"), "coreml": ("", "var_45_cast_fp16")}


def planted(target: str, path: Path, folder: Path, edit: Edit, *, weights: bool) -> Path:
    name = LAYER[target][0] if weights else ACTIVATION[target]
    if target == "coreml":
        return faults.in_coreml(path, folder, edit=edit, **({"weights": 2} if weights else {"pair": 3}))
    changed = copied(path, folder)
    (faults.in_onnx if target == "onnx" else faults.in_tflite)(changed, name, edit)
    return changed


@pytest.mark.parametrize("factor", [16, 1 / 16])
@pytest.mark.parametrize("target", TARGETS)
def test_a_wrong_scale_of_an_activation_is_charged_to_who_makes_it(
    target: str, factor: float, files: dict[str, Path], tmp_path: Path
) -> None:
    path = planted(target, files[target], tmp_path, times(factor), weights=False)
    operators = faults.measured(target, path).operators
    first = operators[worst(operators)[0]]
    assert first.name == ACTIVATION[target]
    assert first.suspicious
    others = [loss for loss in operators if loss is not first]
    # Integer kernels take the bias of whoever reads it to be on the new scale, and the report says so.
    assert {loss.name for loss in others if loss.suspicious} == (set() if target == "coreml" else {LAYER[target][1]})
    assert min(loss.isolated_db for loss in others) > first.isolated_db


@pytest.mark.parametrize("target", TARGETS)
def test_a_wrong_scale_of_one_channel_of_weights_is_charged_to_the_layer(
    target: str, files: dict[str, Path], tmp_path: Path
) -> None:
    path = planted(target, files[target], tmp_path, times(16, channel=5), weights=True)
    operators = faults.measured(target, path).operators
    first = operators[worst(operators)[0]]
    assert first.name == LAYER[target][1]
    assert first.weight is not None
    assert first.weight.worst_channel == 5
    assert [loss.name for loss in operators if loss.suspicious] == [first.name]


@pytest.mark.parametrize("target", TARGETS)
def test_a_file_of_floats_is_refused(target: str, files: dict[str, Path]) -> None:
    with pytest.raises(Unsupported, match="nothing is quantized"):
        CONVERTERS.load(target).probe(faults.MODEL, faults.planned(target, "fp32"), files[target])


@pytest.mark.parametrize("target", TARGETS)
def test_a_damaged_file_is_refused(target: str, files: dict[str, Path], tmp_path: Path) -> None:
    path = copied(files[target], tmp_path)
    damaged = path / "Data/com.apple.CoreML/model.mlmodel" if path.is_dir() else path
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    with pytest.raises(BadArtifact):
        CONVERTERS.load(target).probe(faults.MODEL, faults.planned(target), path)


def test_a_tflite_file_of_another_network_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    path = copied(files["tflite"], tmp_path)
    changed = flatbuffer.unpack(path.read_bytes())
    changed.subgraphs[0].operators = changed.subgraphs[0].operators[:-1]
    faults.repack(changed, path)
    with pytest.raises(Unsupported, match="not what the direct writer makes"):
        CONVERTERS.load("tflite").probe(faults.MODEL, faults.planned("tflite"), path)


def test_a_tflite_file_by_way_of_onnx2tf_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    path = copied(files["tflite"], tmp_path)
    changed = flatbuffer.unpack(path.read_bytes())
    changed.description = b"MLIR Converted."
    faults.repack(changed, path)
    with pytest.raises(Unsupported, match="by way of onnx2tf"):
        CONVERTERS.load("tflite").probe(faults.MODEL, faults.planned("tflite"), path)
