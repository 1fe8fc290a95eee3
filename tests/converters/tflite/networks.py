"""Small networks that are built like the well-known ones, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .engines import randomised
from .photographs import photographs

SIZE, CLASSES = 64, 10


def normed(inputs: int, outputs: int, kernel: int, act: nn.Module | None = None, **options: Any) -> nn.Sequential:
    layers = [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, **options), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([act] if act else []))


class Residual(nn.Module):
    def __init__(self, *inner: nn.Module, after: nn.Module | None = None, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.inner = nn.Sequential(*inner)
        self.after = after or nn.Identity()
        self.shortcut = shortcut or nn.Identity()

    def forward(self, x: torch.Tensor) -> Any:
        return self.after(self.shortcut(x) + self.inner(x))


def inverted(inputs: int, outputs: int, stride: int, act: Callable[[], nn.Module], *extra: nn.Module) -> nn.Module:
    wide = 4 * inputs
    inner = [
        normed(inputs, wide, 1, act()),
        normed(wide, wide, 3, act(), stride=stride, groups=wide),
        *extra,
        normed(wide, outputs, 1),
    ]
    return Residual(*inner) if stride == 1 and inputs == outputs else nn.Sequential(*inner)


def head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(channels, CLASSES)]


def mobilenet_v2() -> nn.Module:
    return nn.Sequential(
        normed(3, 16, 3, nn.ReLU6(inplace=True), stride=2),
        inverted(16, 24, 2, nn.ReLU6),
        inverted(24, 24, 1, nn.ReLU6),
        inverted(24, 32, 2, nn.ReLU6),
        inverted(32, 32, 1, nn.ReLU6),
        normed(32, 64, 1, nn.ReLU6()),
        *head(64),
    )


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: torch.Tensor) -> Any:
        return x * F.hardsigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))


def mobilenet_v3() -> nn.Module:
    return nn.Sequential(
        normed(3, 16, 3, nn.Hardswish(inplace=True), stride=2),
        inverted(16, 24, 2, nn.ReLU, Gate(64)),
        inverted(24, 24, 1, nn.Hardswish, Gate(96)),
        inverted(24, 32, 2, nn.Hardswish, Gate(96)),
        inverted(32, 32, 1, nn.Hardswish, Gate(128)),
        *head(32),
    )


def basic(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    layers = normed(inputs, outputs, 3, nn.ReLU(inplace=True), stride=stride), normed(outputs, outputs, 3)
    shortcut = normed(inputs, outputs, 1, stride=stride) if stride > 1 else None
    return Residual(*layers, after=nn.ReLU(inplace=True), shortcut=shortcut)


def resnet() -> nn.Module:
    stem = [normed(3, 16, 7, nn.ReLU(inplace=True), stride=2), nn.MaxPool2d(3, 2, 1)]
    return nn.Sequential(*stem, basic(16, 16), basic(16, 32, 2), basic(32, 32), basic(32, 64, 2), *head(64))


class Attention(nn.Module):
    """Heads as in timm."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> Any:
        batch, count, dim = x.shape
        q, k, v = self.qkv(x).reshape(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, count, dim))


class SelfAttention(nn.Module):
    """nn.MultiheadAttention of one tensor."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)

    def forward(self, x: torch.Tensor) -> Any:
        return self.attention(x, x, x, need_weights=False)[0]


class VisionTransformer(nn.Module):
    def __init__(self, block: Callable[[int], nn.Module]) -> None:
        super().__init__()
        dim, tokens = 32, (SIZE // 8) ** 2 + 1
        self.patches = nn.Conv2d(3, dim, 8, stride=8)
        self.token = nn.Parameter(torch.randn(1, 1, dim))
        self.places = nn.Parameter(0.5 * torch.randn(1, tokens, dim))
        self.blocks = nn.Sequential(block(dim), block(dim))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, CLASSES)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.places
        return self.head(self.norm(self.blocks(x))[:, 0])


def transformer_block(dim: int, attention: Callable[[int, int], nn.Module] = Attention) -> nn.Module:
    layers = [nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim)]
    return nn.Sequential(Residual(nn.LayerNorm(dim), attention(dim, 4)), Residual(*layers))


def vit() -> nn.Module:
    return VisionTransformer(transformer_block)


def vit_of_torch() -> nn.Module:
    return VisionTransformer(lambda dim: transformer_block(dim, SelfAttention))


def transformer_encoder() -> nn.Module:
    return VisionTransformer(lambda dim: nn.TransformerEncoderLayer(dim, 4, 2 * dim, batch_first=True, norm_first=True))


class Last(nn.Module):
    """A layer over channels, which are moved to the end for it."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> Any:
        return self.layers(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Scaled(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.linspace(0.2, 0.6, dim))

    def forward(self, x: torch.Tensor) -> Any:
        return self.gamma * x


def convnext_block(dim: int) -> nn.Module:
    layers = [nn.LayerNorm(dim, eps=1e-6), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim), Scaled(dim)]
    return Residual(nn.Conv2d(dim, dim, 7, padding=3, groups=dim), Last(*layers))


def convnext() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 24, 4, stride=4),
        Last(nn.LayerNorm(24, eps=1e-6)),
        convnext_block(24),
        Last(nn.LayerNorm(24, eps=1e-6)),
        nn.Conv2d(24, 48, 2, stride=2),
        convnext_block(48),
        convnext_block(48),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.LayerNorm(48, eps=1e-6),
        nn.Linear(48, CLASSES),
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "MobileNetV2": mobilenet_v2,
    "MobileNetV3": mobilenet_v3,
    "ResNet": resnet,
    "ViT": vit,
    "ViT of torch": vit_of_torch,
    "TransformerEncoder": transformer_encoder,
    "ConvNeXt": convnext,
}


def network(name: str, *, centred: bool = False) -> nn.Module:
    """With the statistics of photographs, as after a training; `centred`, no class wins for all images."""
    torch.manual_seed(0)
    module = randomised(NETWORKS[name]())
    images = torch.from_numpy(photographs(32, SIZE, training=True))
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    module(images)
    module.eval()
    if centred:
        last = [part for part in module.modules() if isinstance(part, nn.Linear)][-1]
        last.bias.sub_(module(images).mean(0))
    return module
