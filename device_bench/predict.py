"""From pictures to classes with nothing but an artifact: its file, its preprocessing, its labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..converters import tensors
from ..models.errors import FileProblem
from .session import execute

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..converters.artifact import Artifact


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """A class and its softmax probability; the label is the class's number where the artifact names none."""

    label: str
    probability: float


def classify(
    artifact: Artifact, images: Sequence[Path], *, runtime: str | None = None, top: int = 5
) -> list[tuple[Path, list[Guess]]]:
    """The `top` likeliest classes of each picture; raises `FileProblem` for one that cannot be read."""
    import numpy as np

    manifest = artifact.manifest
    preprocess = manifest.model.preprocess.value()
    pixels = np.stack([preprocess.pixels(_open(path)) for path in images])
    logits = execute(artifact.folder, {manifest.inputs[0].name: preprocess.normalise(pixels)}, runtime=runtime)[0]
    return [(path, _best(row, manifest.model.labels, top)) for path, row in zip(images, logits, strict=True)]


def _open(path: Path) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except UnidentifiedImageError as error:
        raise FileProblem(f"{path} is not a picture that can be read", "give a PNG, JPEG, WebP or the like") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FileProblem(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _best(logits: NDArray[np.float32], labels: Sequence[str] | None, top: int) -> list[Guess]:
    import numpy as np

    probabilities = tensors.softmax(logits)
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [
        Guess(label=labels[index] if labels else str(index), probability=float(probabilities[index])) for index in order
    ]
