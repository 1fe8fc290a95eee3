"""What EfficientViT's stages are made of beside attention; module names are those of the authors' checkpoints."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F


class ConvNorm(nn.Sequential):
    """A convolution without bias, then BatchNorm."""

    c: nn.Conv2d
    bn: nn.BatchNorm2d

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        bn_weight: float = 1.0,
    ) -> None:
        conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        super().__init__(OrderedDict(c=conv, bn=nn.BatchNorm2d(out_channels)))
        nn.init.constant_(self.bn.weight, bn_weight)


class NormLinear(nn.Sequential):
    """BatchNorm, then a linear layer: the classifier."""

    bn: nn.BatchNorm1d
    l: nn.Linear  # noqa: E741  the checkpoints' name

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(OrderedDict(bn=nn.BatchNorm1d(in_features), l=nn.Linear(in_features, out_features)))
        nn.init.trunc_normal_(self.l.weight, std=0.02)
        nn.init.zeros_(self.l.bias)


class Residual(nn.Module):
    """x + m(x)."""

    def __init__(self, m: nn.Module) -> None:
        super().__init__()
        self.m = m

    def forward(self, x: Tensor) -> Tensor:
        """Same shape in and out."""
        return x + self.m(x)  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """1×1 convolution to twice the width, ReLU, 1×1 convolution back."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.pw1 = ConvNorm(dim, 2 * dim)
        self.pw2 = ConvNorm(2 * dim, dim, bn_weight=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) in and out."""
        return self.pw2(F.relu(self.pw1(x)))  # type: ignore[no-any-return]


class SqueezeExcite(nn.Module):
    """Channels rescaled by a gate computed from their means."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) in and out."""
        gate: Tensor = self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * gate.sigmoid()


class PatchMerging(nn.Module):
    """The subsample block: an inverted residual with squeeze-and-excite that halves the map."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        hidden = 4 * dim
        self.conv1 = ConvNorm(dim, hidden)
        self.conv2 = ConvNorm(hidden, hidden, 3, stride=2, groups=hidden)
        self.se = SqueezeExcite(hidden, dim)
        self.conv3 = ConvNorm(hidden, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) to (B, out_dim, ⌈H/2⌉, ⌈W/2⌉)."""
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        return self.conv3(self.se(x))  # type: ignore[no-any-return]
