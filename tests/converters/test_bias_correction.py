"""Corrected biases: exact means whatever the layer, a gain in ONNX Runtime too, and nothing where nothing is gained."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from torch import Tensor, nn

from evit_edge.converters import bias_correction
from evit_edge.converters.bias_correction import corrected, parted, rounded
from evit_edge.converters.onnx import w8
from evit_edge.converters.onnx.engine import session
from evit_edge.models.spec import ModelRequest, find

Array = NDArray[Any]
SIDE = 8


def images(count: int, *, side: int = SIDE, seed: int = 0) -> list[NDArray[np.float32]]:
    """Positive, as behind a ReLU."""
    rng = np.random.default_rng(seed)
    return [rng.uniform(0, 2, (1, 4, side, side)).astype(np.float32) for _ in range(count)]


def in_int8(module: nn.Module) -> nn.Module:
    """The module itself, its weights rounded as those of a file are."""
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear):
                integers, scale = w8.rounded(layer.weight.numpy(), 0)
                layer.weight.copy_(torch.from_numpy(integers * scale.reshape(-1, *[1] * (integers.ndim - 1))))
    return module


def frozen(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers).eval().requires_grad_(False)


def answers(module: nn.Module, feeds: Iterable[Array]) -> Tensor:
    with torch.inference_mode():
        return torch.cat([module(torch.from_numpy(feed)) for feed in feeds])


def answers_of_file(module: nn.Module, feeds: Iterable[Array]) -> Tensor:
    """What ONNX Runtime makes of the module with int8 weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module, (torch.rand(1, 4, SIDE, SIDE),), input_names=["x"], dynamo=True, verbose=False
        )
    assert program is not None
    running = session(w8.compress(program.model_proto).SerializeToString())
    return torch.from_numpy(np.concatenate([running.run(None, {"x": feed})[0] for feed in feeds]))


def sqnr_db(wanted: Tensor, found: Tensor) -> float:
    return float(10 * torch.log10(wanted.double().square().sum() / (wanted - found).double().square().sum()))


def deep(blocks: int = 3) -> nn.Module:
    """Each channel has one large weight, so that the others, all positive, are rounded to zero."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(blocks):
        conv = nn.Conv2d(4, 4, 3, bias=False)
        with torch.no_grad():
            conv.weight.uniform_(0, 0.0035)
            conv.weight[:, 0, 0, 0] = 1
        layers += [conv, nn.ReLU()]
    return frozen(*layers)


class Functional(nn.Module):
    """A layer whose weights stand on the left of a product."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.addmm(self.linear.bias[:, None], self.linear.weight, x.reshape(4, -1))
        return y.reshape(1, 6, *x.shape[2:])


LAYERS = {
    "padded": lambda: nn.Conv2d(4, 6, 3, padding=1),
    "strided, without a bias": lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False),
    "depthwise": lambda: nn.Conv2d(4, 8, 5, padding=2, groups=4),
    "grouped, without a bias": lambda: nn.Conv2d(4, 6, 3, groups=2, bias=False),
    "padded with what is there": lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
    "tokens": lambda: frozen(nn.Flatten(2), nn.Conv1d(4, 6, 1), nn.Unflatten(2, (SIDE, SIDE))),
    "linear": lambda: frozen(nn.Flatten(), nn.Linear(4 * SIDE * SIDE, 6), nn.Unflatten(1, (6, 1, 1))),
    "weights on the left": Functional,
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_rounded_weights_give_the_mean_of_float_ones(layer: Any) -> None:
    torch.manual_seed(0)
    module = frozen(layer())
    better, note = corrected(module, lambda: images(8))
    assert better is not module
    assert note.startswith("bias correction: SQNR with rounded weights ")
    feeds = [feed for place, feed in enumerate(images(8)) if place % 4]
    wanted = answers(module, feeds).mean((0, 2, 3))
    off = (answers(in_int8(better), feeds).mean((0, 2, 3)) - wanted).abs().max()
    before = (answers(in_int8(module), feeds).mean((0, 2, 3)) - wanted).abs().max()
    assert off < 1e-6 < before


def test_errors_that_add_up_are_gone_on_other_images_too() -> None:
    module, fresh = deep(), images(8, seed=1)
    better, note = corrected(module, lambda: images(16))
    wanted = answers(module, fresh)
    before, after = (sqnr_db(wanted, answers(in_int8(each), fresh)) for each in (deep(), better))
    assert after >= before + 6  # dB
    said = [float(part) for part in re.findall(r"\d+\.\d", note)]
    assert said == pytest.approx([before, after], abs=1)


def test_a_file_of_int8_weights_gains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(w8, "SMALLEST", 1)
    module, fresh = deep(), images(4, seed=1)
    better, _ = corrected(module, lambda: images(16))
    wanted = answers(module, fresh)
    before, after = (sqnr_db(wanted, answers_of_file(each, fresh)) for each in (module, better))
    assert after >= before + 6  # dB


def test_the_module_stays_as_it_was() -> None:
    module = deep()
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    corrected(module, lambda: images(8))
    assert module.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())


def test_what_does_not_help_is_left_out() -> None:
    torch.manual_seed(0)
    module = frozen(nn.Conv2d(4, 6, 3))
    rng = np.random.default_rng(0)
    # The means of three images of pure noise are zero for all others.
    centred = [rng.normal(size=(1, 4, 8, 8)).astype(np.float32) for _ in range(4)]
    same, note = corrected(module, lambda: centred)
    assert same is module
    assert note.startswith("bias correction: left out, SQNR with rounded weights ")


def test_weights_that_need_no_rounding_are_left_alone() -> None:
    layer = nn.Conv2d(4, 6, 1)
    nn.init.constant_(layer.weight, 127)
    module = frozen(layer)
    same, note = corrected(module, lambda: images(4))
    assert same is module
    assert "left out" in note


@pytest.mark.parametrize(
    ("module", "count"), [(frozen(nn.ReLU()), 8), (frozen(nn.Conv2d(4, 6, 1)), 1)], ids=["no layer", "one image"]
)
def test_nothing_to_measure_is_said(module: nn.Module, count: int) -> None:
    same, note = corrected(module, lambda: images(count))
    assert same is module
    assert "there is nothing to measure" in note


@given(st.integers(0, 30))
def test_each_image_either_judges_or_is_measured(count: int) -> None:
    numbered = [np.full((1, 1, 1, 1), number, np.float32) for number in range(count)]
    judging, measured = (
        [float(feed.max()) for feed in parted(lambda: numbered, judging=is_one)] for is_one in (True, False)
    )
    assert sorted(judging + measured) == list(range(count))
    assert count < 2 or 0 < len(judging) <= len(measured)


@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=4, max_side=5), elements=st.floats(-1e6, 1e6, width=32)))
def test_weights_are_rounded_as_those_of_files_are(weights: Array) -> None:
    integers, scale = w8.rounded(weights, 0)
    steps = scale.astype(np.float64).reshape(-1, *[1] * (weights.ndim - 1))
    found = rounded(torch.from_numpy(weights)).numpy()
    # Half a step goes either way, by the last bit of the scale.
    ties = np.abs(np.abs(weights / steps) % 1 - 0.5) < 1e-4
    wanted = np.where(ties, found, integers * steps)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-30)
    assert (np.abs(found - weights) <= 0.5001 * steps + 1e-30).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientvit_m0", "efficientvit_m5"])
def test_every_layer_of_efficientvit_is_reached(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whether it helps random weights is another matter.
    monkeypatch.setattr(bias_correction, "LEAST_GAIN", -np.inf)
    spec = find(ModelRequest(name=name, weights="random", img_size=96))
    module = spec.deploy(spec.build(), 1)
    better, _ = corrected(module, lambda: [spec.preprocess.normalise(pixels[None]) for pixels in spec.sample_pixels(2)])
    layers = {f"{name}.bias" for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    after = better.state_dict()
    assert {key for key, tensor in module.state_dict().items() if not torch.equal(tensor, after[key])} == layers
