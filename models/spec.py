"""What a model is called, takes, gives, and how its images are prepared: everything but its arithmetic."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol

from .errors import UnknownName
from .plugins import PluginKind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from torch import nn

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocess:
    """From a picture to the model's input: shorter side to `resize`, centre crop of `size`, (x/255 - mean)/std.

    Both sides in pixels; mean and std per channel in RGB order, for values in 0…1.
    """

    size: int
    resize: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"

    def pixels(self, image: Image) -> NDArray[np.uint8]:
        """The resized and cropped RGB pixels, uint8 (size, size, 3)."""
        import numpy as np
        from PIL.Image import Resampling

        scale = self.resize / min(image.size)
        width, height = (max(self.size, round(side * scale)) for side in image.size)
        resized = image.convert("RGB").resize((width, height), Resampling[self.interpolation.upper()])
        left, top = (width - self.size) // 2, (height - self.size) // 2
        return np.asarray(resized.crop((left, top, left + self.size, top + self.size)), dtype=np.uint8)

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (n, size, size, 3) to the model's float32 (n, 3, size, size)."""
        import numpy as np

        mean, std = (np.asarray(values, np.float32) for values in (self.mean, self.std))
        scaled = (pixels.astype(np.float32) / 255 - mean) / std
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """A named input or output; None in `shape` is the batch."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str = "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """A model as a user names it; None means what the weights, or else the model, say.

    `weights` is a name that the model knows (such as `imagenet`), or a file.
    """

    name: str
    weights: str | None = None
    img_size: int | None = None
    num_classes: int | None = None


def _unchanged(module: nn.Module, batch: int | None = None) -> nn.Module:
    return module


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model that can be built: `build()` gives its float32 `nn.Module` in eval mode, with its weights.

    `request` is complete (no None) and finds this same spec again, in another process too. `weights_sha256`
    is the digest of the weights' file. `sample_pixels(n)` gives n real images the model can be tried on,
    uint8 (n, size, size, 3); `calibration_pixels(n)` gives others, for a quantizer to look at.
    `deploy(module, batch)` gives an equal but leaner module for a batch (None: any); that one is converted, and
    checked against the first. `deploy_channels(module)` gives an equal module with channels second everywhere,
    of convolutions rather than linear layers, for a neural engine and any batch. `weights_known` are the names
    that `request.weights` can have beside a file, `published_top1` is the authors' own accuracy on ImageNet in
    per cent, `author` who made the weights, empty where that is not known.
    """

    request: ModelRequest
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocess: Preprocess
    labels: tuple[str, ...] | None
    licence: str
    weights_sha256: str
    build: Callable[[], nn.Module]
    sample_pixels: Callable[[int], NDArray[np.uint8]]
    calibration_pixels: Callable[[int], NDArray[np.uint8]]
    deploy: Callable[[nn.Module, int | None], nn.Module] = _unchanged
    deploy_channels: Callable[[nn.Module], nn.Module] = _unchanged
    weights_known: tuple[str, ...] = ()
    published_top1: float | None = None
    author: str = ""

    @property
    def name(self) -> str:
        """The model's name."""
        return self.request.name

    @property
    def weights_name(self) -> str:
        """`imagenet` and the like, or the name of the weights' file without its ending."""
        return Path(str(self.request.weights)).stem

    @property
    def digest(self) -> str:
        """sha256 over everything that decides what the model computes, hexadecimal.

        The weights count by their content, not by the path of their file.
        """
        known = {
            "request": asdict(replace(self.request, weights=None)),
            "weights": self.weights_sha256,
            "preprocess": asdict(self.preprocess),
            "labels": self.labels,
            "inputs": [asdict(tensor) for tensor in self.inputs],
            "outputs": [asdict(tensor) for tensor in self.outputs],
        }
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


class Zoo(Protocol):
    """A source of models: the plug-in `ZOO` of a file `zoo_*.py`."""

    def names(self) -> Sequence[str]:
        """The models that can be listed."""

    def find(self, request: ModelRequest) -> ModelSpec | None:
        """The model, or None if this source does not have it; raises `ModelUnavailable` for its weights."""


ZOOS: Final = PluginKind(noun="model source", package=__package__, prefix="zoo_", attribute="ZOO")


def names() -> list[str]:
    """Every model that can be listed, of all sources."""
    return sorted(name for source in ZOOS.names() for name in ZOOS.load(source).names())


def find(request: ModelRequest) -> ModelSpec:
    """The model that `request` names; raises `UnknownName`, or `ModelUnavailable` for its weights."""
    for source in ZOOS.names():
        spec: ModelSpec | None = ZOOS.load(source).find(request)
        if spec is not None:
            return spec
    raise UnknownName.among("model", request.name, names())
