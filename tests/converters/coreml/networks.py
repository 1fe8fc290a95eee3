"""Small networks that are not ours, with weights and statistics as after a training."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..tflite import networks as classifiers
from ..tflite.engines import randomised
from ..tflite.networks import CLASSES, SIZE, head, normed
from ..tflite.photographs import photographs

TRAINING = 32


class Pools(nn.Module):
    """Every pooling that PyTorch has, side by side and in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = normed(3, 16, 3, nn.ReLU())
        self.side_by_side = nn.ModuleList(
            [
                nn.MaxPool2d(3, 2, 1),
                nn.MaxPool2d(2, 2),
                nn.AvgPool2d(3, 2, 1),
                nn.AvgPool2d(3, 2, 1, count_include_pad=False),
                nn.LPPool2d(2, 2, 2),
                nn.AdaptiveAvgPool2d(SIZE // 2),
                nn.AdaptiveMaxPool2d(SIZE // 2),
            ]
        )
        self.mixed = normed(16 * len(self.side_by_side), 24, 1, nn.LeakyReLU(0.1))
        self.in_a_row = nn.Sequential(
            nn.MaxPool2d(3, 2, ceil_mode=True),
            normed(24, 24, 3, nn.ELU()),
            nn.AvgPool2d(3, 2, padding=1, ceil_mode=True),
            normed(24, 32, 3, nn.PReLU()),
        )
        self.head = nn.Sequential(*head(32))

    def forward(self, x: torch.Tensor) -> Any:
        x = self.stem(x)
        return self.head(self.in_a_row(self.mixed(torch.cat([pool(x) for pool in self.side_by_side], 1))))


class UNet(nn.Module):
    """Down by strides, up by each way there is, with what was before beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            [
                normed(inputs, outputs, 3, nn.ReLU(), stride=2)
                for inputs, outputs in ((3, 16), (16, 24), (24, 32), (32, 32))
            ]
        )
        self.up = nn.ConvTranspose2d(32, 32, 4, stride=2, padding=1)
        self.beside = nn.ModuleList(
            [normed(64, 24, 3, nn.ReLU()), normed(48, 16, 3, nn.SiLU()), normed(32, 16, 3, nn.ReLU())]
        )
        self.last = nn.ConvTranspose2d(16, 4, 3, stride=1, padding=1)

    def forward(self, x: torch.Tensor) -> Any:
        half, quarter, eighth, least = (x := layer(x) for layer in self.down)
        y = self.beside[0](torch.cat([F.relu(self.up(least)), eighth], 1))
        y = self.beside[1](torch.cat([F.interpolate(y, scale_factor=2, mode="nearest"), quarter], 1))
        y = F.interpolate(y, size=half.shape[-2:], mode="bilinear", align_corners=False)
        y = self.beside[2](torch.cat([y, half], 1))
        return self.last(F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=True))


class Rows(nn.Module):
    """An LSTM, or GRUs, that read an image by its rows, both ways, in two layers."""

    def __init__(self, recurrent: type[nn.LSTM | nn.GRU] = nn.LSTM) -> None:
        super().__init__()
        self.stem = normed(3, 8, 3, nn.ReLU(), stride=4)
        self.recurrent = recurrent(8 * SIZE // 4, 32, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x: torch.Tensor) -> Any:
        rows = self.stem(x).permute(0, 2, 1, 3).flatten(2)
        return self.head(self.recurrent(rows)[0].mean(1))


class Detector(nn.Module):
    """Anchors on two scales: scores and boxes of all of them, the best scores, and the mean of the best boxes."""

    anchors: torch.Tensor

    def __init__(self, classes: int = 3, each: int = 2, best: int = 12) -> None:
        super().__init__()
        self.classes, self.best = classes, best
        self.stem = nn.Sequential(normed(3, 16, 3, nn.SiLU(), stride=4), normed(16, 32, 3, nn.SiLU(), stride=2))
        self.further = normed(32, 32, 3, nn.SiLU(), stride=2)
        self.scores, self.boxes = (nn.Conv2d(32, each * size, 3, padding=1) for size in (classes, 4))
        self.register_buffer("anchors", torch.rand(1, each * (8 * 8 + 4 * 4), 4) + 0.5)

    def forward(self, x: torch.Tensor) -> Any:
        near = self.stem(x)
        levels = near, self.further(near)
        scores = torch.cat([_by_anchor(self.scores(level), self.classes) for level in levels], 1).sigmoid()
        raw = torch.cat([_by_anchor(self.boxes(level), 4) for level in levels], 1)
        middle = raw[..., :2].tanh() * self.anchors[..., 2:] + self.anchors[..., :2]
        size = raw[..., 2:].clamp(max=2).exp() * self.anchors[..., 2:]
        boxes = torch.cat([middle - size / 2, middle + size / 2], -1)
        values, places = scores.amax(-1).topk(self.best, 1)
        found = boxes.gather(1, places.unsqueeze(-1).expand(-1, -1, 4))
        mean = (values.unsqueeze(-1) * found).sum(1) / values.sum(1, keepdim=True)
        return scores, boxes, values, mean


def _by_anchor(x: torch.Tensor, size: int) -> Any:
    batch, channels, height, width = x.shape
    return x.reshape(batch, channels // size, size, height, width).permute(0, 3, 4, 1, 2).reshape(batch, -1, size)


class Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> Any:
        return x * self.factor


class Halves(nn.Module):
    """A layer that takes each half of the channels down, after what it is given was cut in two."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> Any:
        left, right = x.chunk(2, 1)
        return torch.cat([right * self.factor, left * -self.factor], 1)


def _overflowing(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(
        normed(3, 16, 3, nn.ReLU(), stride=2), *layers, normed(16, 24, 3, nn.ReLU(), stride=2), *head(24)
    )


def in_the_middle() -> nn.Module:
    """Its values are beyond float16 in the middle, as no weight and no output is."""
    up, down = ([Scaled(factor), nn.Softplus(), Scaled(factor)] for factor in (1e3, 1e-3))
    return _overflowing(*up, nn.MaxPool2d(3, 2, 1), *down)


def in_two_halves() -> nn.Module:
    """What is beyond float16 is one operator's several results."""
    return _overflowing(Scaled(1e3), nn.Softplus(), Scaled(1e3), Halves(1e-6))


def in_weights() -> nn.Module:
    """A factor becomes part of the weights before it, which are then beyond float16 too."""
    return _overflowing(nn.Conv2d(16, 16, 1), Scaled(1e6), nn.ReLU(), Scaled(1e-6))


def at_the_end() -> nn.Module:
    return nn.Sequential(_overflowing(), Scaled(1e3), nn.LeakyReLU(0.5), Scaled(1e4))


OWN: dict[str, Callable[[], nn.Module]] = {
    "pools": Pools,
    "UNet": UNet,
    "LSTM": Rows,
    "GRU": lambda: Rows(nn.GRU),
    "detector": Detector,
}
OVERFLOWING: dict[str, Callable[[], nn.Module]] = {
    "middle": in_the_middle,
    "two halves": in_two_halves,
    "weights": in_weights,
    "end": at_the_end,
}
NETWORKS = (*classifiers.NETWORKS, *OWN)


@cache
def network(name: str) -> nn.Module:
    """In eval mode; no class of a classifier wins for all images."""
    if name in classifiers.NETWORKS:
        return classifiers.network(name, centred=True)
    torch.manual_seed(0)
    module = randomised({**OWN, **OVERFLOWING}[name]())
    images = torch.from_numpy(photographs(TRAINING, SIZE, training=True))
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    module(images)
    module.eval()
    *_, last = module.modules()
    if isinstance(last, nn.Linear):
        last.bias.sub_(module(images).mean(0))
    return module
