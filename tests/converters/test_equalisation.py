"""Equalised channels: the same float function, fewer errors in int8 files, and hands off what does not allow it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from evit_edge.converters import equalisation
from evit_edge.converters.equalisation import equalised
from evit_edge.converters.onnx import host, int8, ranges
from evit_edge.converters.onnx.engine import fused, session
from evit_edge.models.spec import ModelRequest, find

SHARED = Path(__file__).resolve().parents[3] / "shared"
WEIGHTS = SHARED / "weights" / "efficientvit_m0_cifar10_96px.safetensors"
IMAGES = SHARED / "data" / "cifar10_calibration.npz"

Array = NDArray[Any]
SIDE = 8


def images(count: int = 12, *, seed: int = 0) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(1, 4, SIDE, SIDE)).astype(np.float32) for _ in range(count)]


def uneven(first: nn.Module, second: Any, *between: nn.Module) -> nn.Sequential:
    """The layers with channels of wildly different ranges between them, of which the second layer undoes the effect."""
    torch.manual_seed(1)
    with torch.no_grad():
        factors = 10 ** torch.empty(len(first.weight)).uniform_(-1.5, 1.5)  # type: ignore[arg-type]
        for parameter in first.parameters():
            parameter.mul_(factors.reshape(-1, *[1] * (parameter.ndim - 1)))
        groups = len(factors) // second.weight.shape[1]
        split = second.weight.unflatten(0, (groups, -1))
        split.div_(factors.reshape(groups, 1, -1, *[1] * (second.weight.ndim - 2)))
    return nn.Sequential(first, *between, second)


def frozen(module: nn.Module) -> nn.Module:
    return module.eval().requires_grad_(False)


def answers(module: nn.Module, feeds: Iterable[Array]) -> Tensor:
    with torch.inference_mode():
        return torch.cat([module(torch.from_numpy(feed)) for feed in feeds])


def relative_l2(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).double().norm() / wanted.double().norm())


def conv(inputs: int = 4, outputs: int = 16, kernel: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


def normed() -> nn.Module:
    """A normalisation as it is after training, with the scales of the channels in it."""
    norm = nn.BatchNorm2d(16)
    nn.init.uniform_(norm.bias, -0.5, 0.5)
    return nn.Sequential(conv(bias=False), uneven(norm, conv(16, 6), nn.ReLU()))


POSSIBLE: dict[str, Callable[[], nn.Module]] = {
    "convolutions": lambda: uneven(conv(), conv(16, 6), nn.ReLU()),
    "without a bias": lambda: uneven(conv(bias=False), conv(16, 6, bias=False), nn.ReLU(inplace=True)),
    "nothing between": lambda: uneven(conv(), conv(16, 6)),
    "depthwise behind": lambda: uneven(conv(), conv(16, 16, groups=16), nn.ReLU()),
    "depthwise in front": lambda: uneven(conv(4, 16, groups=4), conv(16, 6, 1), nn.ReLU()),
    "grouped behind": lambda: uneven(conv(), conv(16, 8, groups=2), nn.ReLU()),
    "pooled between": lambda: uneven(conv(), conv(16, 6), nn.LeakyReLU(), nn.MaxPool2d(2)),
    "normalised": normed,
    "linear": lambda: uneven(nn.Linear(SIDE, 16), nn.Linear(16, 6), nn.ReLU(), nn.Dropout()),
    "tokens": lambda: nn.Sequential(nn.Flatten(2), uneven(nn.Conv1d(4, 16, 1), nn.Conv1d(16, 6, 1), nn.ReLU())),
}


@pytest.mark.parametrize("network", POSSIBLE.values(), ids=POSSIBLE)
def test_a_pair_is_found_and_computes_the_same(network: Callable[[], nn.Module]) -> None:
    module = frozen(network())
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    equal, note = equalised(module, images)
    assert note.startswith("equalised: 1 of 1 pairs of layers, median gain ")
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    assert not all(torch.equal(tensor, state[name]) for name, tensor in equal.state_dict().items())
    fresh = images(seed=1)
    assert relative_l2(answers(equal, fresh), answers(module, fresh)) < 1e-5


class Branched(nn.Module):
    """What is between the layers is used again behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = uneven(conv(), conv(16, 16), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers[:2](x)
        return y + self.layers[2](y)  # type: ignore[no-any-return]


class Shared(nn.Module):
    """The layer in front is used twice, or its weights by another layer."""

    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        self.layers = uneven(conv(4, 4), conv(4, 4), nn.ReLU())
        self.again = conv(4, 4) if tied else self.layers[0]
        if tied:
            self.again.weight = self.layers[0].weight

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(self.again(x).sigmoid())  # type: ignore[no-any-return]


IMPOSSIBLE: dict[str, Callable[[], nn.Module]] = {
    "ReLU6": lambda: uneven(conv(), conv(16, 6), nn.ReLU6()),
    "Hardswish": lambda: uneven(conv(), conv(16, 6), nn.Hardswish()),
    "GELU": lambda: uneven(conv(), conv(16, 6), nn.GELU()),
    "a branch": Branched,
    "a layer used twice": lambda: Shared(tied=False),
    "weights used twice": lambda: Shared(tied=True),
    "other channels": lambda: nn.Sequential(conv(), nn.ReLU(), nn.Linear(SIDE, 6)),
    "padding with what is there": lambda: uneven(conv(), conv(16, 6, padding_mode="reflect"), nn.ReLU()),
    "one layer": conv,
}


@pytest.mark.parametrize("network", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_does_not_let_factors_pass_is_left_alone(network: Callable[[], nn.Module]) -> None:
    module = frozen(network())
    same, note = equalised(module, images)
    assert same is module
    assert note == "equalisation: left out, no layer has its result go through a ReLU to just one other"


def test_a_network_that_cannot_be_traced_is_left_alone() -> None:
    class Deciding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = POSSIBLE["convolutions"]()

        def forward(self, x: Tensor) -> Tensor:
            return self.layers(x) if float(x.sum()) > 0 else x

    module = frozen(Deciding())
    same, note = equalised(module, images)
    assert same is module
    assert note.startswith("equalisation: left out, torch.export does not take the network: ")
    assert "\n" not in note


def test_channels_that_are_even_stay_as_they_are() -> None:
    torch.manual_seed(0)
    module = frozen(nn.Sequential(conv(), nn.ReLU(), conv(16, 6)))
    same, note = equalised(module, images)
    assert same is module
    assert "left out" in note


def test_dead_channels_are_left_alone() -> None:
    module = POSSIBLE["convolutions"]()
    with torch.no_grad():
        state = module.state_dict()
        state["0.bias"][0] = -1e3 * state["0.weight"][0].abs().sum()
        state["2.weight"][:, 1] = 0
    equal, note = equalised(frozen(module), images)
    assert "1 of 1 pairs" in note
    before, after = module.state_dict(), equal.state_dict()
    assert torch.equal(before["0.weight"][:2], after["0.weight"][:2])
    assert all(torch.isfinite(tensor).all() for tensor in after.values())


def test_no_factor_runs_away() -> None:
    module = POSSIBLE["depthwise behind"]()
    with torch.no_grad():
        for parameter in module[0].parameters():  # type: ignore[index]
            parameter[0] *= 1e-9
    equal, _ = equalised(frozen(module), images)
    sizes = [each.state_dict()["0.weight"].abs().amax((1, 2, 3)) for each in (module, equal)]
    factors = sizes[0] / sizes[1]
    assert factors.max() / factors.median() < 64.1
    assert factors.median() / factors.min() < 64.1


def quantized(module: nn.Module, feeds: Iterable[Array]) -> Tensor:
    """What ONNX Runtime makes of its int8 file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = torch.rand(1, 4, SIDE, SIDE)
        program = torch.onnx.export(module, (example,), input_names=["x"], dynamo=True, verbose=False)
    assert program is not None
    ready = fused(program.model_proto)
    model = int8.quantize(ready, ranges.measure(ready, images(32)), host.measured_host())
    running = session(model.SerializeToString())
    return torch.from_numpy(np.concatenate([running.run(None, {"x": feed})[0] for feed in feeds]))


def test_an_int8_file_of_uneven_channels_gains() -> None:
    narrow = uneven(conv(4, 16, 1), conv(16, 16, groups=16), nn.ReLU())
    module = frozen(nn.Sequential(*narrow, nn.ReLU(), *uneven(conv(16, 16, 1), conv(16, 6, 1), nn.ReLU())))
    equal, note = equalised(module, lambda: images(32))
    fresh = images(16, seed=1)
    wanted = answers(module, fresh)
    before, after = (relative_l2(quantized(each, fresh), wanted) for each in (module, equal))
    assert after < before / 3
    assert "of 3 pairs" in note


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientvit_m0", "efficientvit_m5"])
def test_efficientvit_computes_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # All pairs, whether they gain or not.
    monkeypatch.setattr(equalisation, "LEAST_GAIN", -np.inf)
    monkeypatch.setattr(equalisation, "LEAST_GAIN_OVERALL", -np.inf)
    spec = find(ModelRequest(name=name, weights="random"))
    module = spec.deploy(spec.build(), 1)
    feeds = [spec.preprocess.normalise(pixels[None]) for pixels in spec.sample_pixels(8)]
    equal, note = equalised(module, lambda: feeds)
    assert equal is not module
    found, of = (int(number) for number in re.findall(r"\d+", note)[:2])
    assert found == of >= 25
    assert relative_l2(answers(equal, feeds), answers(module, feeds)) < 1e-5


@pytest.mark.slow
@pytest.mark.skipif(not (WEIGHTS.exists() and IMAGES.exists()), reason=f"needs weights and images in {SHARED}")
def test_a_trained_efficientvit_needs_none() -> None:
    spec = find(ModelRequest(name="efficientvit_m0", weights=str(WEIGHTS)))
    module = spec.deploy(spec.build(), 1)
    with np.load(IMAGES) as archive:
        pixels = [spec.preprocess.pixels(Image.fromarray(image)) for image in archive["images"][:128]]
    same, note = equalised(module, lambda: (spec.preprocess.normalise(each[None]) for each in pixels))
    assert same is module
    assert "of 25 pairs of layers" in note
