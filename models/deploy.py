"""The deploy graph: an equal but leaner network for export.

At batch 1 the number of operators bounds the latency more than arithmetic does, so the graph is rebuilt, not
only folded: BatchNorm goes into the convolution beside it (Jacob et al., CVPR 2018), a depthwise layer's
residual into its kernel's centre (Ding et al., RepVGG, CVPR 2021), the attention scale into the query's
convolution, the mean of two classifiers into one; attention heads are matrix products over tokens, and the
last feed-forward layer runs on pooled features, which its linear second half allows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .efficientvit import KEY_DIM, CascadedGroupAttention, EfficientViT, EfficientViTBlock, LocalWindowAttention
from .efficientvit_layers import ConvNorm, FeedForward, NormLinear, PatchMerging, Residual
from .folding import convolution, fold, folded, folded_classifier, linear

# A row of so few tokens fills one vector register: tokens last costs nothing and spares the transpositions.
TOKENS_LAST_UP_TO: Final = 16


def deploy(model: EfficientViT, *, batch: int | None = 1) -> nn.Module:
    """An inference-only float32 copy of `model` that computes the same as `model.eval()`; `model` is untouched.

    Takes float (B, in_channels, img_size, img_size) and returns logits (B, num_classes), the mean of both
    heads with distillation, or the list of three maps with `features_only`. `batch=1` fixes B to 1 for fewer
    operators; any other number, or None, leaves B free. Raises ValueError for a batch below 1, and when
    called with another image size or batch than it was built for.
    """
    if batch is not None and batch < 1:
        raise ValueError(f"batch must be positive or None, got {batch}")
    return LeanEfficientViT(model, single=batch == 1).eval().requires_grad_(False)


class LeanEfficientViT(nn.Module):
    """See `deploy`; `single` fixes the batch to 1."""

    def __init__(self, model: EfficientViT, *, single: bool) -> None:
        super().__init__()
        self.img_size = model.img_size
        self.single = single
        stem = [fold(layer) if isinstance(layer, ConvNorm) else nn.ReLU() for layer in model.patch_embed]
        self.patch_embed = nn.Sequential(*stem)
        stages = [list(_leaned(stage, single=single)) for stage in model.stages]
        self.head: nn.Module | None = None
        if not model.features_only:
            self.head = PooledHead(cast(LeanFeedForward, stages[-1].pop()), model.heads)
        self.stages = nn.ModuleList(nn.Sequential(*layers) for layers in stages)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """See `deploy`."""
        if image.shape[-2:] != (self.img_size, self.img_size) or (self.single and image.shape[0] != 1):
            batch = 1 if self.single else "any"
            raise ValueError(f"built for batch {batch} at {self.img_size}px, got {tuple(image.shape)}")
        x = self.patch_embed(image)
        features: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features if self.head is None else self.head(x)


class LeanFeedForward(nn.Module):
    """x + pw2(relu(pw1(x)))."""

    def __init__(self, source: FeedForward) -> None:
        super().__init__()
        self.pw1 = fold(source.pw1)
        self.pw2 = fold(source.pw2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) in and out."""
        return x + self.pw2(F.relu(self.pw1(x)))  # type: ignore[no-any-return]


class PooledHead(nn.Module):
    """The last feed-forward layer, the pooling and the classifier.

    The mean over positions commutes with the layer's second convolution, which then sees one position.
    """

    def __init__(self, last: LeanFeedForward, heads: list[NormLinear]) -> None:
        super().__init__()
        assert last.pw2.bias is not None
        self.pw1 = last.pw1
        self.pw2 = linear(last.pw2.weight[:, :, 0, 0], last.pw2.bias)
        folded = [folded_classifier(head) for head in heads]
        weights, biases = zip(*folded, strict=True)
        self.classifier = linear(torch.stack(weights).mean(0), torch.stack(biases).mean(0))

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) to (B, num_classes)."""
        hidden = F.relu(self.pw1(x)).mean((2, 3))
        return self.classifier(x.mean((2, 3)) + self.pw2(hidden))  # type: ignore[no-any-return]


class LeanPatchMerging(nn.Module):
    """`PatchMerging`, folded."""

    def __init__(self, source: PatchMerging) -> None:
        super().__init__()
        self.conv1 = fold(source.conv1)
        self.conv2 = fold(source.conv2)
        self.conv3 = fold(source.conv3)
        self.fc1, self.fc2 = (
            convolution(layer, layer.weight, cast(Tensor, layer.bias)) for layer in (source.se.fc1, source.se.fc2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) to (B, out_dim, ⌈H/2⌉, ⌈W/2⌉)."""
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        gate = self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True))))
        return self.conv3(x * gate.sigmoid())  # type: ignore[no-any-return]


class LeanHead(nn.Module):
    """One attention head over tokens; with `single`, over one window."""

    bias: Tensor

    def __init__(self, source: CascadedGroupAttention, head: int, *, single: bool) -> None:
        super().__init__()
        self.single = single
        self.side = round(source.relative_positions.shape[0] ** 0.5)
        self.widths = [KEY_DIM, KEY_DIM, source.value_dim]
        weight, bias = folded(cast(ConvNorm, source.qkvs[head]))
        self.qkv = linear(weight[:, :, 0, 0], bias)
        self.dw = fold(cast(ConvNorm, source.dws[head]), scale=source.scale)
        gathered = source.attention_biases.detach()[head, source.relative_positions]
        self.register_buffer("bias", gathered.float())

    def forward(self, x: Tensor) -> Tensor:
        """(windows, tokens, value_dim) in and out, (tokens, value_dim) with `single`.

        Channels are last, so that no product transposes weights.
        """
        tokens = self.side * self.side
        q, k, v = self.qkv(x).split(self.widths, dim=-1)
        q = self.dw(q.reshape(-1, self.side, self.side, KEY_DIM).permute(0, 3, 1, 2))
        if self.single:
            # Exported as one product that takes both transpositions and the bias along.
            return torch.addmm(self.bias, q.reshape(KEY_DIM, tokens).t(), k.t()).softmax(-1) @ v  # type: ignore[no-any-return]
        weights = (q.reshape(-1, KEY_DIM, tokens).transpose(1, 2) @ k.transpose(1, 2) + self.bias).softmax(-1)
        return weights @ v  # type: ignore[no-any-return]


class TokensLastHead(LeanHead):
    """`LeanHead` over one window, on the transposed matrix."""

    def forward(self, x: Tensor) -> Tensor:
        """(value_dim, tokens) in and out."""
        q, k, v = torch.addmm(self.qkv.bias[:, None], self.qkv.weight, x).split(self.widths, dim=0)
        q = self.dw(q.reshape(1, KEY_DIM, self.side, self.side)).reshape(KEY_DIM, -1)
        # Exported as one product that takes its second matrix transposed; `v @ weights.t()` would be two nodes.
        return F.linear(v, torch.addmm(self.bias, q.t(), k).softmax(-1))


class LeanAttention(nn.Module):
    """x + window attention, its projection applied after the windows are put back."""

    def __init__(self, source: LocalWindowAttention, *, single: bool) -> None:
        super().__init__()
        attn = source.attn
        self.window = source.window
        self.count = -(-source.resolution // source.window)
        self.padding = self.count * source.window - source.resolution
        self.value_dim = attn.value_dim
        single = single and self.count == 1
        self.single = single
        self.tokens_last = single and source.window**2 <= TOKENS_LAST_UP_TO
        head_type = TokensLastHead if self.tokens_last else LeanHead
        self.heads = nn.ModuleList(head_type(attn, head, single=single) for head in range(attn.num_heads))
        self.proj = fold(cast(ConvNorm, attn.proj[1]))

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, resolution, resolution) in and out."""
        axis = 0 if self.tokens_last else -1
        outputs: list[Tensor] = []
        for head, part in zip(self.heads, self._tokens(x).split(self.value_dim, dim=axis), strict=True):
            outputs.append(head(outputs[-1] + part if outputs else part))
        y = self._map(F.relu(torch.cat(outputs, dim=axis)), x)
        return x + self.proj(y)  # type: ignore[no-any-return]

    def _tokens(self, x: Tensor) -> Tensor:
        """The map as matrices: (windows, tokens, dim), or one (tokens, dim) or (dim, tokens) for a single window."""
        dim = x.shape[1]
        if self.tokens_last:
            return x.reshape(dim, -1)
        if self.padding:
            x = F.pad(x, (0, self.padding, 0, self.padding))
        x = x.permute(0, 2, 3, 1)
        if self.count > 1:
            # A window's row of tokens is contiguous here, so windows form by moving whole rows.
            x = x.reshape(-1, self.window, self.count, self.window * dim).permute(0, 2, 1, 3)
        return x.reshape(-1, dim) if self.single else x.reshape(-1, self.window**2, dim)

    def _map(self, y: Tensor, x: Tensor) -> Tensor:
        """Undoes `_tokens`, for a result of the shape of `x`."""
        if self.tokens_last:
            return y.reshape(x.shape)
        dim, height, width = x.shape[1:]
        side = self.count * self.window
        if self.count > 1:
            y = y.reshape(-1, self.count, self.window, self.window * dim).permute(0, 2, 1, 3)
        y = y.reshape(-1, side, side, dim).permute(0, 3, 1, 2)
        return y[:, :, :height, :width] if self.padding else y


def _leaned(module: nn.Module, *, single: bool) -> Iterator[nn.Module]:
    """The leaf layers of a stage, each replaced by its lean form."""
    inner = module.m if isinstance(module, Residual) else module
    if isinstance(inner, ConvNorm):
        yield fold(inner, residual=inner is not module)
    elif isinstance(inner, FeedForward):
        yield LeanFeedForward(inner)
    elif isinstance(inner, LocalWindowAttention):
        yield LeanAttention(inner, single=single)
    elif isinstance(inner, PatchMerging):
        yield LeanPatchMerging(inner)
    else:
        assert isinstance(inner, nn.Sequential | EfficientViTBlock), type(inner)
        for part in inner.children():
            yield from _leaned(part, single=single)
