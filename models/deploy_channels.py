"""The deploy graph for a neural engine: channels second everywhere, convolutions instead of linear layers.

The layout is that of Apple's "Deploying Transformers on the Apple Neural Engine" (2022): maps (B, C, H, W) and
tokens (B, C, S), products as 1×1 convolutions, few reshapes and transpositions, no tensor of more than five axes.
Attention, pooling and the classifier differ from `deploy`; all else is taken from there.
"""

from __future__ import annotations

from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .deploy import LeanAttention, LeanEfficientViT, LeanHead, PooledHead
from .efficientvit import KEY_DIM, EfficientViT

Convolution = TypeVar("Convolution", nn.Conv1d, nn.Conv2d)


def deploy_channels(model: EfficientViT) -> nn.Module:
    """An inference-only float32 copy of `model` that computes the same as `model.eval()`; `model` is untouched.

    Takes float (B, in_channels, img_size, img_size) for any B and returns logits (B, num_classes), the mean of
    both heads with distillation, or the list of three maps with `features_only`. Raises ValueError when called
    with another image size than it was built for.
    """
    lean = LeanEfficientViT(model, single=False)
    for stage in cast("list[nn.Sequential]", lean.stages):
        for index, layer in enumerate(stage):
            if isinstance(layer, LeanAttention):
                stage[index] = ChannelsAttention(layer)
    if lean.head is not None:
        lean.head = ChannelsPooledHead(cast(PooledHead, lean.head))
    return lean.eval().requires_grad_(False)


class ChannelsHead(nn.Module):
    """One attention head over tokens; query, key and value come from three convolutions, so nothing is split."""

    bias: Tensor

    def __init__(self, source: LeanHead) -> None:
        super().__init__()
        self.side = source.side
        parts = zip(*(tensor.split(source.widths) for tensor in (source.qkv.weight, source.qkv.bias)), strict=True)
        self.q, self.k, self.v = (_pointwise(nn.Conv1d, weight, bias) for weight, bias in parts)
        self.dw = source.dw
        self.register_buffer("bias", source.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(windows, value_dim, tokens) in and out."""
        q = self.dw(self.q(x).reshape(-1, KEY_DIM, self.side, self.side))
        # Core ML's product takes either matrix transposed.
        scores = torch.matmul(q.reshape(-1, KEY_DIM, self.side**2).transpose(1, 2), self.k(x)) + self.bias
        return torch.matmul(self.v(x), scores.softmax(-1).transpose(1, 2))


class ChannelsAttention(nn.Module):
    """x + window attention, its projection applied after the windows are put back."""

    def __init__(self, source: LeanAttention) -> None:
        super().__init__()
        self.window = source.window
        self.count = source.count
        self.padding = source.padding
        self.value_dim = source.value_dim
        self.dim = source.proj.in_channels
        self.heads = nn.ModuleList(ChannelsHead(cast(LeanHead, head)) for head in source.heads)
        self.proj = source.proj

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, resolution, resolution) in and out."""
        outputs: list[Tensor] = []
        for head, part in zip(self.heads, self._tokens(x).split(self.value_dim, dim=1), strict=True):
            outputs.append(head(outputs[-1] + part if outputs else part))
        return x + self.proj(self._map(F.relu(torch.cat(outputs, dim=1))))  # type: ignore[no-any-return]

    def _tokens(self, x: Tensor) -> Tensor:
        """The map as (windows, dim, tokens).

        The windows' order is free. With image and channel last in it, both stay one axis: five axes do, not six.
        """
        if self.padding:
            x = F.pad(x, (0, self.padding, 0, self.padding))
        if self.count > 1:
            x = x.reshape(-1, self.count, self.window, self.count, self.window).permute(1, 3, 0, 2, 4)
        return x.reshape(-1, self.dim, self.window**2)

    def _map(self, y: Tensor) -> Tensor:
        """Undoes `_tokens`."""
        if self.count > 1:
            y = y.reshape(self.count, self.count, -1, self.window, self.window).permute(2, 0, 3, 1, 4)
        side = self.count * self.window
        y = y.reshape(-1, self.dim, side, side)
        return y[:, :, : side - self.padding, : side - self.padding] if self.padding else y


class ChannelsPooledHead(nn.Module):
    """`PooledHead` as convolutions over a map of one position."""

    def __init__(self, source: PooledHead) -> None:
        super().__init__()
        self.pw1 = source.pw1
        self.pw2 = _pointwise(nn.Conv2d, source.pw2.weight, source.pw2.bias)
        self.classifier = _pointwise(nn.Conv2d, source.classifier.weight, source.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) to (B, num_classes)."""
        hidden = F.relu(self.pw1(x)).mean((2, 3), keepdim=True)
        return self.classifier(x.mean((2, 3), keepdim=True) + self.pw2(hidden)).flatten(1)  # type: ignore[no-any-return]


def _pointwise(kind: type[Convolution], weight: Tensor, bias: Tensor) -> Convolution:
    """The 1×1 convolution for a linear layer's weight (out, in) and bias (out)."""
    conv = kind(weight.shape[1], weight.shape[0], 1)
    # Copies: a part of a larger tensor would keep, and write to a file, all of it.
    conv.weight = nn.Parameter(weight.detach().clone().reshape(conv.weight.shape))
    conv.bias = nn.Parameter(bias.detach().clone())
    return conv
