"""EfficientViT-M0 to M5: memory-efficient vision transformers with cascaded group attention.

Source: Liu et al., "EfficientViT: Memory Efficient Vision Transformer with Cascaded Group Attention",
CVPR 2023 (arXiv 2305.07027). Module names follow the authors' checkpoints, so those load without renaming.
This is not the MIT HAN Lab network of the same name (arXiv 2205.14756).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .efficientvit_layers import ConvNorm, FeedForward, NormLinear, PatchMerging, Residual

KEY_DIM: Final = 16
WINDOW: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class EfficientViTConfig:
    """The sizes of one variant; `kernels[i]` is the query convolution of head i, the same in every stage."""

    embed_dim: tuple[int, int, int]
    depth: tuple[int, int, int]
    num_heads: tuple[int, int, int]
    kernels: tuple[int, ...]


CONFIGS: Final[dict[str, EfficientViTConfig]] = {
    f"efficientvit_m{index}": EfficientViTConfig(embed_dim=dims, depth=depth, num_heads=heads, kernels=kernels)
    for index, (dims, depth, heads, kernels) in enumerate(
        [
            ((64, 128, 192), (1, 2, 3), (4, 4, 4), (5, 5, 5, 5)),
            ((128, 144, 192), (1, 2, 3), (2, 3, 3), (7, 5, 3, 3)),
            ((128, 192, 224), (1, 2, 3), (4, 3, 2), (7, 5, 3, 3)),
            ((128, 240, 320), (1, 2, 3), (4, 3, 4), (5, 5, 5, 5)),
            ((128, 256, 384), (1, 2, 3), (4, 4, 4), (7, 5, 3, 3)),
            ((192, 288, 384), (1, 3, 4), (3, 3, 4), (7, 5, 3, 3)),
        ]
    )
}


def halved(side: int) -> int:
    """The side of a map after a 3×3 convolution with stride 2 and padding 1."""
    return (side - 1) // 2 + 1


def stage_sides(img_size: int) -> tuple[int, int, int]:
    """The sides of the three stages' maps (strides 16, 32, 64) for a square image of `img_size` pixels."""
    first = img_size
    for _ in range(4):
        first = halved(first)
    return first, halved(first), halved(halved(first))


def relative_positions(side: int) -> Tensor:
    """Which attention bias each pair of tokens uses: int64 (side², side²), |Δrow|·side + |Δcolumn|."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    rows, columns = rows.flatten(), columns.flatten()
    return (rows[:, None] - rows).abs() * side + (columns[:, None] - columns).abs()


class CascadedGroupAttention(nn.Module):
    """Each head attends over its own split of the channels, plus the output of the head before it."""

    relative_positions: Tensor

    def __init__(self, dim: int, num_heads: int, side: int, kernels: tuple[int, ...]) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.value_dim = dim // num_heads
        self.scale = KEY_DIM**-0.5
        qkv_dim = 2 * KEY_DIM + self.value_dim
        self.qkvs = nn.ModuleList(ConvNorm(self.value_dim, qkv_dim) for _ in range(num_heads))
        self.dws = nn.ModuleList(ConvNorm(KEY_DIM, KEY_DIM, kernel, groups=KEY_DIM) for kernel in kernels[:num_heads])
        self.proj = nn.Sequential(nn.ReLU(), ConvNorm(dim, dim, bn_weight=0.0))
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, side * side))
        self.register_buffer("relative_positions", relative_positions(side), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, side, side) in and out."""
        # Gathered at every call: a kept copy would go stale after load_state_dict, .half() or .to().
        biases = self.attention_biases[:, self.relative_positions]
        outputs: list[Tensor] = []
        for head, part in enumerate(x.chunk(self.num_heads, dim=1)):
            outputs.append(self._attend(head, outputs[-1] + part if outputs else part, biases[head]))
        return self.proj(torch.cat(outputs, dim=1))  # type: ignore[no-any-return]

    def _attend(self, head: int, x: Tensor, bias: Tensor) -> Tensor:
        q, k, v = self.qkvs[head](x).split([KEY_DIM, KEY_DIM, self.value_dim], dim=1)
        q, k, v = self.dws[head](q).flatten(2), k.flatten(2), v.flatten(2)
        weights: Tensor = ((q.transpose(1, 2) @ k) * self.scale + bias).softmax(dim=-1)
        mixed: Tensor = v @ weights.transpose(1, 2)
        return mixed.reshape(x.shape)


class LocalWindowAttention(nn.Module):
    """Cascaded group attention inside windows of at most 7×7 tokens.

    A map that does not divide into windows is padded with zeros at the bottom and the right; there is no
    mask, so the padding takes part in the softmax, as in the reference.
    """

    def __init__(self, dim: int, num_heads: int, resolution: int, kernels: tuple[int, ...]) -> None:
        super().__init__()
        self.resolution = resolution
        self.window = min(WINDOW, resolution)
        self.attn = CascadedGroupAttention(dim, num_heads, self.window, kernels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, resolution, resolution) in and out; raises ValueError for another size."""
        batch, dim, height, width = x.shape
        if (height, width) != (self.resolution, self.resolution):
            raise ValueError(f"built for maps of {self.resolution}×{self.resolution}, got {height}×{width}")
        if self.window == self.resolution:
            return self.attn(x)  # type: ignore[no-any-return]
        count = -(-self.resolution // self.window)
        side = count * self.window
        padding = side - self.resolution
        x = F.pad(x, (0, padding, 0, padding))
        x = x.view(batch, dim, count, self.window, count, self.window).permute(0, 2, 4, 1, 3, 5)
        x = self.attn(x.reshape(-1, dim, self.window, self.window))
        x = x.view(batch, count, count, dim, self.window, self.window).permute(0, 3, 1, 4, 2, 5)
        return x.reshape(batch, dim, side, side)[:, :, :height, :width]


class EfficientViTBlock(nn.Module):
    """The sandwich: token interaction and feed-forward on both sides of one attention layer."""

    def __init__(self, dim: int, num_heads: int, resolution: int, kernels: tuple[int, ...]) -> None:
        super().__init__()
        self.dw0 = Residual(ConvNorm(dim, dim, 3, groups=dim, bn_weight=0.0))
        self.ffn0 = Residual(FeedForward(dim))
        self.mixer = Residual(LocalWindowAttention(dim, num_heads, resolution, kernels))
        self.dw1 = Residual(ConvNorm(dim, dim, 3, groups=dim, bn_weight=0.0))
        self.ffn1 = Residual(FeedForward(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, resolution, resolution) in and out."""
        return self.ffn1(self.dw1(self.mixer(self.ffn0(self.dw0(x)))))  # type: ignore[no-any-return]


class EfficientViT(nn.Module):
    """An EfficientViT for square images of `img_size` pixels.

    Images are float (B, in_channels, img_size, img_size), normalised as `ModelSpec.preprocess` says. Returns
    logits (B, num_classes); with `features_only` the maps of the three stages (strides 16, 32, 64) instead;
    with `distillation` the two heads' logits in training and their mean in eval.
    """

    def __init__(
        self,
        config: EfficientViTConfig,
        *,
        img_size: int = 224,
        num_classes: int = 1000,
        in_channels: int = 3,
        distillation: bool = False,
        features_only: bool = False,
    ) -> None:
        super().__init__()
        if img_size < 1 or num_classes < 1:
            raise ValueError(f"img_size and num_classes must be positive, got {img_size} and {num_classes}")
        self.config = config
        self.img_size = img_size
        self.num_classes = num_classes
        self.features_only = features_only
        self.patch_embed = _patch_embed(in_channels, config.embed_dim[0])
        for stage, side in enumerate(stage_sides(img_size)):
            setattr(self, f"blocks{stage + 1}", nn.Sequential(*_stage(config, stage, side)))
        if not features_only:
            self.head = NormLinear(config.embed_dim[-1], num_classes)
            if distillation:
                self.head_dist = NormLinear(config.embed_dim[-1], num_classes)

    @property
    def heads(self) -> list[NormLinear]:
        """The classifier, and the distillation head where there is one."""
        return [getattr(self, name) for name in ("head", "head_dist") if hasattr(self, name)]

    @property
    def stages(self) -> list[nn.Sequential]:
        """The three stages."""
        return [self.blocks1, self.blocks2, self.blocks3]  # type: ignore[list-item]

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...] | list[Tensor]:
        """See the class."""
        x = self.patch_embed(image)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        if self.features_only:
            return features
        pooled = x.mean((2, 3))
        logits = tuple(head(pooled) for head in self.heads)
        if len(logits) == 1:
            return logits[0]  # type: ignore[no-any-return]
        return logits if self.training else (logits[0] + logits[1]) / 2


def _patch_embed(in_channels: int, dim: int) -> nn.Sequential:
    """Four overlapping 3×3 convolutions of stride 2, ReLU between them."""
    widths = [in_channels, dim // 8, dim // 4, dim // 2, dim]
    layers: list[nn.Module] = []
    for width, next_width in pairwise(widths):
        layers += [ConvNorm(width, next_width, 3, stride=2), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _stage(config: EfficientViTConfig, stage: int, side: int) -> Iterator[nn.Module]:
    dim = config.embed_dim[stage]
    if stage > 0:
        before = config.embed_dim[stage - 1]
        yield _sandwich(before)
        yield PatchMerging(before, dim)
        yield _sandwich(dim)
    for _ in range(config.depth[stage]):
        yield EfficientViTBlock(dim, config.num_heads[stage], side, config.kernels)


def _sandwich(dim: int) -> nn.Sequential:
    return nn.Sequential(Residual(ConvNorm(dim, dim, 3, groups=dim)), Residual(FeedForward(dim)))
