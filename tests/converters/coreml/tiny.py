"""A network that converts in a second: a spec like any other, with layers large enough to be compressed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from evit_edge.converters.conversion import CONVERTERS, Conversion, plan
from evit_edge.models.sample_images import sample_photographs
from evit_edge.models.spec import ModelRequest, ModelSpec, Preprocess, TensorSpec

LABELS: Final = ("zebra", "ant", "two words", "Äpfel", "0")
SIZE: Final = 16
PREPROCESS: Final = Preprocess(size=SIZE, resize=18, mean=(0.5, 0.4, 0.3), std=(0.25, 0.3, 0.1))


class Network(nn.Module):
    """Convolutions of each kind and a classifier; `gain` enlarges what is between two of them, and takes it back."""

    def __init__(self, gain: float = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gain = gain
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.wide = nn.Conv2d(16, 256, 1)
        self.narrow = nn.Conv2d(256, 64, 1)
        self.head = nn.Linear(64, len(LABELS))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.depthwise(self.stem(image)))
        if self.gain != 1:
            x = (x * self.gain) / self.gain
        x = torch.relu(self.narrow(torch.relu(self.wide(x))))
        return 10 * self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


class Twins(nn.Module):
    """Two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network()

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.network(image)
        return logits, logits[:, :2] * 2


def spec(build: Callable[[], nn.Module] = Network, **changes: Any) -> ModelSpec:
    """The spec of `build`, whose weights are said to lie on somebody's machine."""
    known: dict[str, Any] = {
        "request": ModelRequest(
            name="tiny", weights="/home/somebody/secret/small.safetensors", img_size=SIZE, num_classes=len(LABELS)
        ),
        "inputs": (TensorSpec(name="image", shape=(None, 3, SIZE, SIZE)),),
        "outputs": (TensorSpec(name="logits", shape=(None, len(LABELS))),),
        "preprocess": PREPROCESS,
        "labels": LABELS,
        "licence": "MIT",
        "weights_sha256": "0123456789abcdef" * 4,
        "build": lambda: build().eval(),
        "sample_pixels": lambda count: sample_photographs(count, PREPROCESS),
        "calibration_pixels": lambda count: sample_photographs(count, PREPROCESS, part="training"),
        "author": "Somebody",
    }
    return ModelSpec(**(known | changes))


def planned(
    precision: str = "fp16", *, batch: int | None = 1, of: ModelSpec | None = None, **options: str
) -> Conversion:
    """The conversion of a spec, the tiny one's unless `of` is another."""
    own: dict[str, Any] = {"calibration_images": 4} if precision == "int8" else {}
    return plan(of or spec(), "coreml", precision=precision, batch=batch, options=options, **own)


def written(conversion: Conversion, folder: Path) -> Path:
    """The package of a conversion that has nothing to remark, but for what became of the biases at int8."""
    path = folder / "model.mlpackage"
    notes = CONVERTERS.load("coreml").convert(conversion.spec.build(), conversion, path)
    assert [note for note in notes if not note.startswith("bias correction: ")] == []
    return path


def images(of: ModelSpec, count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The model's input: real pictures, normalised."""
    return of.preprocess.normalise(of.sample_pixels(count))


def answers(of: ModelSpec, feed: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The original's own logits."""
    with torch.inference_mode():
        logits: np.ndarray[Any, np.dtype[np.float32]] = of.build()(torch.from_numpy(feed)).numpy()
    return logits
