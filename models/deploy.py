"""The deploy graph: an equal but leaner network for export.

Folding follows Jacob et al., CVPR 2018 (BatchNorm into the convolution before it) and Ding et al., RepVGG,
CVPR 2021 (a residual into the kernel's centre). The attention heads are restructured because at batch 1 the
number of operators, not arithmetic, bounds the latency.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .efficientvit import (
    KEY_DIM,
    CascadedGroupAttention,
    ConvNorm,
    EfficientViT,
    EfficientViTBlock,
    FeedForward,
    LocalWindowAttention,
    NormLinear,
    PatchMerging,
    Residual,
)


def deploy(model: EfficientViT, *, batch: int | None = 1) -> nn.Module:
    """An inference-only float32 copy of `model` with every constant folded; `model` stays untouched.

    Takes and returns what `model` does in eval mode. With `batch=1` the module accepts only one image at a
    time; with another number or None any batch, a dynamic one too.
    """
    return DeployedEfficientViT(model, single=batch == 1).eval().requires_grad_(False)


class DeployedEfficientViT(nn.Module):
    """See `deploy`."""

    def __init__(self, model: EfficientViT, *, single: bool) -> None:
        super().__init__()
        self.features_only = model.features_only
        self.single = single
        layers = list(model.patch_embed)
        self.patch_embed = nn.Sequential(*(_fold(m) if isinstance(m, ConvNorm) else nn.ReLU() for m in layers))
        self.stages = nn.ModuleList(nn.Sequential(*(_lean(m, single=single) for m in stage)) for stage in model.stages)
        if not self.features_only:
            self.head = _average([_fold_linear(head) for head in model.heads])

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """See `EfficientViT`."""
        x = self.patch_embed(image)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        if self.features_only:
            return features
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


def _lean(module: nn.Module, *, single: bool) -> nn.Module:
    if isinstance(module, EfficientViTBlock):
        parts = [module.dw0, module.ffn0, module.mixer, module.dw1, module.ffn1]
        return nn.Sequential(*(_lean(part, single=single) for part in parts))
    if isinstance(module, PatchMerging):
        return LeanPatchMerging(module)
    if isinstance(module, nn.Sequential):
        return nn.Sequential(*(_lean(part, single=single) for part in module))
    assert isinstance(module, Residual)
    inner = module.m
    if isinstance(inner, ConvNorm):
        return _fold(inner, residual=True)
    if isinstance(inner, FeedForward):
        return LeanFeedForward(inner)
    assert isinstance(inner, LocalWindowAttention)
    return LeanAttention(inner, single=single)


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias, float64, of the convolution that does both."""
    scale, shift = _affine(norm)
    return conv.weight.detach().double() * scale[:, None, None, None], shift


def _affine(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, norm.bias.detach().double() - norm.running_mean.double() * scale


def _convolution(weight: Tensor, bias: Tensor, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    out_channels, width, kernel, _ = weight.shape
    conv = nn.Conv2d(width * groups, out_channels, kernel, stride, kernel // 2, groups=groups)
    conv.weight = nn.Parameter(weight.float())
    conv.bias = nn.Parameter(bias.float())
    return conv


def _fold(layer: ConvNorm, *, residual: bool = False, scale: float = 1.0) -> nn.Conv2d:
    weight, bias = _folded(layer.c, layer.bn)
    if residual:
        centre = layer.c.kernel_size[0] // 2
        weight[:, 0, centre, centre] += 1
    return _convolution(weight * scale, bias * scale, stride=layer.c.stride[0], groups=layer.c.groups)


def _fold_linear(layer: NormLinear) -> tuple[Tensor, Tensor]:
    scale, shift = _affine(layer.bn)
    weight = layer.l.weight.detach().double()
    return weight * scale, weight @ shift + layer.l.bias.detach().double()


def _average(heads: list[tuple[Tensor, Tensor]]) -> nn.Linear:
    weight = torch.stack([weight for weight, _ in heads]).mean(0)
    bias = torch.stack([bias for _, bias in heads]).mean(0)
    return _linear(weight, bias)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight = nn.Parameter(weight.float().contiguous())
    linear.bias = nn.Parameter(bias.float().contiguous())
    return linear


class LeanFeedForward(nn.Module):
    """x + pw2(relu(pw1(x)))."""

    def __init__(self, source: FeedForward) -> None:
        super().__init__()
        self.pw1 = _fold(source.pw1)
        self.pw2 = _fold(source.pw2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) in and out."""
        return x + self.pw2(F.relu(self.pw1(x)))  # type: ignore[no-any-return]


class LeanPatchMerging(nn.Module):
    """Same as `PatchMerging`, folded."""

    def __init__(self, source: PatchMerging) -> None:
        super().__init__()
        self.conv1 = _fold(source.conv1)
        self.conv2 = _fold(source.conv2)
        self.fc1 = _convolution(*_plain(source.se.fc1))
        self.fc2 = _convolution(*_plain(source.se.fc2))
        self.conv3 = _fold(source.conv3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) to (B, out_dim, ⌈H/2⌉, ⌈W/2⌉)."""
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        gate = self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True))))
        return self.conv3(x * gate.sigmoid())  # type: ignore[no-any-return]


def _plain(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    assert conv.bias is not None
    return conv.weight.detach().double(), conv.bias.detach().double()


class LeanHead(nn.Module):
    """One attention head over tokens, channels last, so that its matrices need no transposition."""

    bias: Tensor

    def __init__(self, source: CascadedGroupAttention, head: int, *, flat: bool) -> None:
        super().__init__()
        self.flat = flat
        layer = source.qkvs[head]
        weight, bias = _folded(layer.c, layer.bn)
        parts = [KEY_DIM, KEY_DIM, source.value_dim]
        self.query, self.key, self.value = (
            _linear(w, b) for w, b in zip(weight[:, :, 0, 0].split(parts), bias.split(parts), strict=True)
        )
        self.dw = _fold(source.dws[head], scale=source.scale)
        self.register_buffer("bias", source.attention_biases.detach()[head, source.relative_positions].float())
        self.side = round(self.bias.shape[0] ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens, value_dim) in and out, or without B where there is one window."""
        q = self.query(x).reshape(-1, self.side, self.side, KEY_DIM).permute(0, 3, 1, 2)
        if self.flat:
            q = self.dw(q).reshape(KEY_DIM, -1).t()
            logits = torch.addmm(self.bias, q, self.key(x).t())
        else:
            q = self.dw(q).flatten(2).transpose(1, 2)
            logits = q @ self.key(x).transpose(1, 2) + self.bias
        return logits.softmax(-1) @ self.value(x)  # type: ignore[no-any-return]


class LeanAttention(nn.Module):
    """x + window attention."""

    def __init__(self, source: LocalWindowAttention, *, single: bool) -> None:
        super().__init__()
        attn = source.attn
        self.window = source.window
        self.count = -(-source.resolution // source.window)
        self.padding = self.count * self.window - source.resolution
        self.flat = single and self.count == 1
        self.value_dim = attn.value_dim
        self.heads = nn.ModuleList(LeanHead(attn, head, flat=self.flat) for head in range(attn.num_heads))
        self.proj = _fold(attn.proj[1])

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, resolution, resolution) in and out."""
        outputs: list[Tensor] = []
        for head, part in zip(self.heads, self._partition(x).split(self.value_dim, dim=-1), strict=True):
            outputs.append(head(outputs[-1] + part if outputs else part))
        y = self._merge(F.relu(torch.cat(outputs, dim=-1)), x)
        return x + self.proj(y)  # type: ignore[no-any-return]

    def _partition(self, x: Tensor) -> Tensor:
        batch, dim = x.shape[:2]
        if self.flat:
            return x.permute(0, 2, 3, 1).reshape(-1, dim)
        if self.count == 1:
            return x.permute(0, 2, 3, 1).flatten(1, 2)
        if self.padding:
            x = F.pad(x, (0, self.padding, 0, self.padding))
        x = x.reshape(batch, dim, self.count, self.window, self.count, self.window).permute(0, 2, 4, 3, 5, 1)
        return x.reshape(-1, self.window * self.window, dim)

    def _merge(self, y: Tensor, x: Tensor) -> Tensor:
        batch, dim, height, width = x.shape
        if self.count == 1:
            return y.reshape(-1, height, width, dim).permute(0, 3, 1, 2)
        side = self.count * self.window
        y = y.reshape(batch, self.count, self.count, self.window, self.window, dim).permute(0, 5, 1, 3, 2, 4)
        return y.reshape(batch, dim, side, side)[:, :, :height, :width] if self.padding else y.reshape(x.shape)
