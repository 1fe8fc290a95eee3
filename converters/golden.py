"""What the original model answered: the inputs of the parity gate and its outputs, saved beside the artifact.

`golden.npz` holds, for each group of inputs, `pixels_<group>` uint8 (n, size, size, 3), `gain_<group>` float32 ()
and `output_<group>_<index>` float32. The model's input is the normalised pixels times the gain, so adversarial
inputs cost no more than pictures. `half_large` float32 () is how far the model itself is off in half precision on
inputs that are too large, as a relative L2; it is not there for a model that PyTorch cannot run in half precision.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zipfile import BadZipFile

from ..models.errors import BadArtifact
from .artifact import GOLDEN, Artifact

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from ..models.spec import ModelSpec, Preprocess

Arrays = dict[str, "NDArray[Any]"]

IMAGES: Final = "images"
BEYOND: Final = "large"
# At 16 a deep model is chaotic: its own float32 answers were found 10 % off its float64 ones.
LARGE_GAIN: Final = 4.0
NOISE_COUNT: Final = 4
BATCH: Final = 16


def make(spec: ModelSpec, model: nn.Module, *, images: int, seed: int) -> Arrays:
    """Ask the eager `model`: real images, uniform noise, an all-zero input, and noise `LARGE_GAIN` times too large."""
    import numpy as np

    rng = np.random.default_rng(seed)
    shape = (NOISE_COUNT, spec.preprocess.size, spec.preprocess.size, 3)
    groups = {
        IMAGES: (spec.sample_pixels(images), 1.0),
        "noise": (rng.integers(0, 256, shape, dtype=np.uint8), 1.0),
        "zeros": (np.zeros((1, *shape[1:]), np.uint8), 0.0),
        BEYOND: (rng.integers(0, 256, shape, dtype=np.uint8), LARGE_GAIN),
    }
    arrays: Arrays = {}
    for group, (pixels, gain) in groups.items():
        arrays[f"pixels_{group}"] = pixels
        arrays[f"gain_{group}"] = np.float32(gain)  # type: ignore[assignment]
        for index, output in enumerate(_ask(model, _feed(spec.preprocess, pixels, gain))):
            arrays[f"output_{group}_{index}"] = output
    pixels, gain = groups[BEYOND]
    half = _lost_in_half(model, _feed(spec.preprocess, pixels, gain))
    if half is not None:
        arrays[f"half_{BEYOND}"] = np.float32(half)  # type: ignore[assignment]
    return arrays


def save(folder: Path, arrays: Arrays) -> None:
    """Write `golden.npz` into `folder`."""
    import numpy as np

    np.savez_compressed(folder / GOLDEN, **arrays)


def feeds(artifact: Artifact) -> dict[str, dict[str, NDArray[np.float32]]]:
    """The gate's inputs by group and input name, float32 (n, 3, size, size); raises `BadArtifact`."""
    preprocess = artifact.manifest.model.preprocess.value()
    arrays = _load(artifact.folder)
    name = artifact.manifest.inputs[0].name
    return {
        group: {name: _feed(preprocess, arrays[f"pixels_{group}"], float(arrays[f"gain_{group}"]))}
        for group in _groups(arrays)
    }


def outputs(artifact: Artifact) -> dict[str, list[NDArray[np.float32]]]:
    """The original model's outputs by group, in the manifest's order; raises `BadArtifact`."""
    arrays = _load(artifact.folder)
    count = len(artifact.manifest.outputs)
    return {group: [arrays[f"output_{group}_{index}"] for index in range(count)] for group in _groups(arrays)}


def halves(artifact: Artifact) -> dict[str, float]:
    """What the model itself loses in half precision, as a relative L2, for the groups where that was asked."""
    arrays = _load(artifact.folder)
    prefix = "half_"
    return {name.removeprefix(prefix): float(value) for name, value in arrays.items() if name.startswith(prefix)}


def _groups(arrays: Arrays) -> list[str]:
    return [name.removeprefix("pixels_") for name in arrays if name.startswith("pixels_")]


def _load(folder: Path) -> Arrays:
    import numpy as np

    try:
        with (folder / GOLDEN).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, BadZipFile) as error:
        raise BadArtifact(f"{folder / GOLDEN} cannot be read: {error}", "convert again") from error


def _feed(preprocess: Preprocess, pixels: NDArray[np.uint8], gain: float) -> NDArray[np.float32]:
    import numpy as np

    return preprocess.normalise(pixels) * np.float32(gain)


def _ask(model: nn.Module, feed: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    import numpy as np
    import torch

    batches = []
    with torch.inference_mode():
        for start in range(0, len(feed), BATCH):
            answer = model(torch.from_numpy(feed[start : start + BATCH]))
            batches.append([answer] if isinstance(answer, torch.Tensor) else list(answer))
    return [np.concatenate([part.numpy() for part in parts]) for parts in zip(*batches, strict=True)]


def _lost_in_half(model: nn.Module, feed: NDArray[np.float32]) -> float | None:
    """The worst relative L2 between the model in half precision and in float32; None if it does not run so."""
    import copy

    import numpy as np
    import torch

    half = copy.deepcopy(model).half()
    try:
        with torch.inference_mode():
            answer = half(torch.from_numpy(feed).half())
    except RuntimeError:
        return None
    parts = [answer] if isinstance(answer, torch.Tensor) else list(answer)
    got, want = (
        np.concatenate([part.reshape(len(feed), -1).astype(np.float64) for part in arrays], axis=1)
        for arrays in ([part.float().numpy() for part in parts], _ask(model, feed))
    )
    lost = float((np.linalg.norm(got - want, axis=1) / np.linalg.norm(want, axis=1)).max())
    # Where the model overflows in half precision it says nothing.
    return lost if np.isfinite(lost) else None
