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
            self.head = PooledHead(self.stages[-1][-1].pop(-1), _average([_fold_linear(head) for head in model.heads]))

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """See `EfficientViT`."""
        x = self.patch_embed(image)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        if self.features_only:
            return features
        return self.head(x)  # type: ignore[no-any-return]


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


class PooledHead(nn.Module):
    """Last FFN, pool and classifier: pool first."""

    def __init__(self, ffn: LeanFeedForward, classifier: nn.Linear) -> None:
        super().__init__()
        self.pw1 = ffn.pw1
        self.pw2 = _linear(ffn.pw2.weight[:, :, 0, 0], ffn.pw2.bias)
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.pw1(x)).mean((2, 3))
        return self.classifier(x.mean((2, 3)) + self.pw2(y))


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
    split = False

    def __init__(self, source: CascadedGroupAttention, head: int, *, flat: bool) -> None:
        super().__init__()
        self.flat = flat
        layer = source.qkvs[head]
        weight, bias = _folded(layer.c, layer.bn)
        self.parts = [KEY_DIM, KEY_DIM, source.value_dim]
        self.qkv = _linear(weight[:, :, 0, 0], bias)
        self.query, self.key, self.value = (
            _linear(w, b) for w, b in zip(weight[:, :, 0, 0].split(self.parts), bias.split(self.parts), strict=True)
        )
        self.dw = _fold(source.dws[head], scale=source.scale)
        self.register_buffer("bias", source.attention_biases.detach()[head, source.relative_positions].float())
        self.side = round(self.bias.shape[0] ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens, value_dim) in and out, or without B where there is one window."""
        if self.split:
            z = self.qkv(x)
            if not self.flat:
                z = z.reshape(-1, self.side**2, sum(self.parts))
            q, k, v = z.split(self.parts, -1)
        else:
            q, k, v = self.query(x), self.key(x), self.value(x)
            if not self.flat:
                k, v = k.reshape(-1, self.side**2, KEY_DIM), v.reshape(-1, self.side**2, self.parts[2])
        q = self.dw(q.reshape(-1, self.side, self.side, KEY_DIM).permute(0, 3, 1, 2))
        if self.flat:
            return torch.addmm(self.bias, q.reshape(KEY_DIM, -1).t(), k.t()).softmax(-1) @ v
        q = q.reshape(-1, KEY_DIM, self.side**2)
        return ((q.mT @ k.mT + self.bias).softmax(-1) @ v).reshape(-1, self.parts[2])


class ChannelHead(LeanHead):
    def forward(self, x):
        q, k, v = torch.addmm(self.qkv.bias[:, None], self.qkv.weight, x).split(self.parts, 0)
        q = self.dw(q.reshape(1, KEY_DIM, self.side, self.side)).reshape(KEY_DIM, -1)
        return F.linear(v, torch.addmm(self.bias, q.t(), k).softmax(-1))


class LeanAttention(nn.Module):
    """x + window attention."""

    small = 0

    def __init__(self, source: LocalWindowAttention, *, single: bool) -> None:
        super().__init__()
        attn = source.attn
        self.window = source.window
        self.count = -(-source.resolution // source.window)
        self.padding = self.count * self.window - source.resolution
        self.flat = single and self.count == 1
        self.value_dim = attn.value_dim
        self.ch = self.flat and self.window <= self.small
        self.heads = nn.ModuleList(
            (ChannelHead if self.ch else LeanHead)(attn, head, flat=self.flat) for head in range(attn.num_heads)
        )
        self.proj = _fold(attn.proj[1])

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, resolution, resolution) in and out."""
        outputs: list[Tensor] = []
        if self.ch:
            parts = x.reshape(-1, self.window**2).split(self.value_dim, 0)
            for head, part in zip(self.heads, parts, strict=True):
                outputs.append(head(outputs[-1] + part if outputs else part))
            return x + self.proj(F.relu(torch.cat(outputs, 0)).reshape(x.shape))
        for head, part in zip(self.heads, self._partition(x).split(self.value_dim, dim=-1), strict=True):
            outputs.append(head(outputs[-1] + part if outputs else part))
        y = self._merge(F.relu(torch.cat(outputs, dim=-1)), x)
        return x + self.proj(y)  # type: ignore[no-any-return]

    def _partition(self, x: Tensor) -> Tensor:
        batch, dim = x.shape[:2]
        if self.padding:
            x = F.pad(x, (0, self.padding, 0, self.padding))
        x = x.permute(0, 2, 3, 1)
        if self.count > 1:
            # Whole rows of a window move together.
            x = x.reshape(-1, self.window, self.count, self.window * dim).permute(0, 2, 1, 3)
        return x.reshape(-1, dim)

    def _merge(self, y: Tensor, x: Tensor) -> Tensor:
        dim, height, width = x.shape[1:]
        side = self.count * self.window
        if self.count > 1:
            y = y.reshape(-1, self.count, self.window, self.window * dim).permute(0, 2, 1, 3)
        y = y.reshape(-1, side, side, dim).permute(0, 3, 1, 2)
        return y[:, :, :height, :width] if self.padding else y
