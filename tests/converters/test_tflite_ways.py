"""Which way a model goes to TFLite, and what is said where one way, or neither, knows an operator of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from torch import nn

from evit_edge.converters.conversion import Conversion
from evit_edge.converters.tflite import by_onnx2tf, metadata
from evit_edge.converters.tflite.inspection import histogram
from evit_edge.converters.to_tflite import CONVERTER
from evit_edge.models.errors import ConversionFailed, MissingDependency, ParityFailed, Unsupported
from evit_edge.models.spec import ModelRequest, ModelSpec, Preprocess, TensorSpec

SIZE = 8
Function = Callable[[torch.Tensor], torch.Tensor]


class Odd(nn.Module):
    """What no writer may know."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


class Network(nn.Module):
    """A convolution, and the odd one out at `blocks.1.odd`."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        torch.manual_seed(0)
        inner = nn.Module()
        inner.odd = Odd(function)
        self.blocks = nn.ModuleList([nn.Conv2d(3, 4, 3, padding=1), inner])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.blocks[1].odd(self.blocks[0](image)).flatten(1)  # type: ignore[no-any-return, operator]


def wave(x: torch.Tensor) -> torch.Tensor:
    return torch.sin(x)


def accumulated(x: torch.Tensor) -> torch.Tensor:
    return torch.cumsum(x, dim=3)


def determinant(x: torch.Tensor) -> torch.Tensor:
    return cast(torch.Tensor, torch.linalg.det(x))


def singular_values(x: torch.Tensor) -> torch.Tensor:
    return cast(torch.Tensor, torch.linalg.svdvals(x))


def known(x: torch.Tensor) -> torch.Tensor:
    return torch.relu(x)


def conversion(module: nn.Module, precision: Any = "fp32", **options: str) -> Conversion:
    pixels = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8)
    spec = ModelSpec(
        request=ModelRequest(name="odd", weights="random", img_size=SIZE, num_classes=4),
        inputs=(TensorSpec(name="image", shape=(None, 3, SIZE, SIZE)),),
        outputs=(TensorSpec(name="logits", shape=(None, 4)),),
        preprocess=Preprocess(size=SIZE, resize=SIZE),
        labels=None,
        licence="Apache-2.0",
        weights_sha256="0" * 64,
        build=lambda: module,
        sample_pixels=lambda count: pixels[:count],
        calibration_pixels=lambda count: pixels[:count],
    )
    given = {**CONVERTER.options, **options}
    return Conversion(spec=spec, target="tflite", precision=precision, options=given)


def write(function: Function, folder: Path, **options: str) -> tuple[Path, list[str]]:
    module = Network(function).eval()
    out = folder / "model.tflite"
    return out, list(CONVERTER.convert(module, conversion(module, **options), out))


def test_the_direct_way_names_the_operator_and_the_module_that_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(ConversionFailed, match=r"no rule for aten\.cumsum\.default in blocks\.1\.odd") as caught:
        write(accumulated, tmp_path, via="direct")
    assert type(caught.value) is ConversionFailed
    assert "--via onnx2tf" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_what_the_direct_way_lacks_goes_by_onnx2tf_with_one_line_that_says_why(tmp_path: Path) -> None:
    out, notes = write(wave, tmp_path)
    (note,) = notes
    assert note == "by way of onnx2tf: the direct writer has no rule for aten.sin.default in blocks.1.odd"
    assert histogram(out)["SIN"] == 1
    assert metadata.read(out).model.name == "odd"
    image = np.random.default_rng(1).standard_normal((1, 3, SIZE, SIZE)).astype(np.float32)
    runner = Interpreter(model_path=str(out)).get_signature_runner("serving_default")
    expected = Network(wave).eval()(torch.from_numpy(image)).detach().numpy()
    np.testing.assert_allclose(runner(image=image.transpose(0, 2, 3, 1))["logits"], expected, rtol=1e-4, atol=1e-4)
    content = out.read_bytes()
    assert not any(f"{place}/".encode() in content for place in (Path.home(), tmp_path, Path(__file__).parents[2]))
    assert list(tmp_path.iterdir()) == [out]


def test_a_float_model_that_onnx2tf_got_wrong_is_refused_before_it_is_quantized(tmp_path: Path) -> None:
    module = Network(accumulated).eval()
    # onnx2tf 1.29.24 takes the axis of CumSum for one of channels-last tensors, and says nothing.
    with pytest.raises(ParityFailed, match="the float form of the file to be quantized is off"):
        CONVERTER.convert(module, conversion(module, "w8"), tmp_path / "model.tflite")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("function", "first", "second"),
    [
        (determinant, "det", r"ONNX operator Det"),
        (singular_values, "svd", "the way to ONNX, which onnx2tf needs, fails"),
    ],
)
def test_where_neither_way_knows_an_operator_it_is_named_with_its_module_and_nothing_is_left(
    tmp_path: Path, function: Function, first: str, second: str
) -> None:
    with pytest.raises(ConversionFailed, match=second) as caught:
        write(function, tmp_path)
    assert f"no rule for aten.linalg_{first}" in caught.value.message or f"aten._linalg_{first}" in caught.value.message
    assert "in blocks.1.odd" in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 4
    assert list(tmp_path.iterdir()) == []


def test_without_onnx2tf_what_the_direct_way_lacks_is_still_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"cumsum.* in blocks\.1\.odd; .*needs onnx2tf") as caught:
        write(accumulated, tmp_path)
    assert caught.value.exit_code == 3
    assert "pip install 'evit-edge[onnx2tf]'" in caught.value.hint
    with pytest.raises(MissingDependency, match="needs onnx2tf"):
        CONVERTER.check(conversion(Network(known), via="onnx2tf"))


def test_what_the_direct_way_knows_never_goes_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("onnx2tf was asked")

    monkeypatch.setattr(by_onnx2tf, "convert", refuse)
    out, notes = write(known, tmp_path)
    assert notes == []
    assert out.exists()


def test_w8a16_takes_the_only_way_that_has_it_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = Network(known).eval()

    def written(model: nn.Module, asked: Conversion, out: Path, **_: Any) -> None:
        CONVERTER.convert(model, conversion(module), out)

    monkeypatch.setattr(by_onnx2tf, "convert", written)
    (note,) = CONVERTER.convert(module, conversion(module, "w8a16"), tmp_path / "model.tflite")
    assert note == "w8a16 goes by way of onnx2tf: the direct writer has no int16 activations"


@pytest.mark.parametrize(
    ("precision", "options", "match"),
    [
        ("w8a16", {"via": "direct"}, "no w8a16"),
        ("fp32", {"via": "tflite"}, "choose auto, direct, onnx2tf"),
        ("fp32", {"io": "NHWC"}, "choose nhwc, nchw"),
        ("int8", {"input": "int16"}, "choose float, int8, uint8"),
        ("w8", {"input": "uint8"}, "add --precision int8"),
    ],
)
def test_choices_that_do_not_exist_or_do_not_fit_are_refused(
    precision: str, options: dict[str, str], match: str
) -> None:
    with pytest.raises(Unsupported, match=match):
        CONVERTER.check(conversion(Network(known), precision, **options))
