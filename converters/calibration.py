"""Images that a quantizer looks at: from a folder, an `.npz`, or those that come with the model."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zipfile import BadZipFile

from ..models.download import sha256_of
from ..models.errors import FileProblem, Unsupported

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..models.spec import ModelSpec

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """`count` images of `source` (a folder or an `.npz`; None: the model's own samples); `sha256` is over them."""

    source: str | None
    count: int
    sha256: str

    @property
    def identity(self) -> dict[str, Any]:
        """What stands in the manifest: how many images, and which by their content."""
        return {"count": self.count, "sha256": self.sha256}

    def pixels(self, spec: ModelSpec) -> Iterator[NDArray[np.uint8]]:
        """The images, one by one, resized and cropped as the model wants them: uint8 (size, size, 3)."""
        if self.source is None:
            yield from spec.calibration_pixels(self.count)
        elif Path(self.source).is_dir():
            yield from (_opened(path, spec) for path in _files(Path(self.source), self.count))
        else:
            from PIL import Image

            yield from (spec.preprocess.pixels(Image.fromarray(image)) for image in _array(self.source)[: self.count])

    def feeds(self, spec: ModelSpec) -> Iterator[NDArray[np.float32]]:
        """The model's inputs for them, one by one: float32 (1, 3, size, size)."""
        for pixels in self.pixels(spec):
            yield spec.preprocess.normalise(pixels[None])


def choose(source: Path | None, count: int) -> Calibration:
    """The calibration with the first `count` images of `source`, fewer if it has fewer.

    A folder is searched to the bottom, in the order of names; an `.npz` holds `images`, uint8 (n, height, width, 3).
    Raises `Unsupported` for a count below one, and `FileProblem` for what cannot be read.
    """
    if count < 1:
        raise Unsupported(f"calibration with {count} images is not possible", "choose 1 or more")
    if source is None:
        return Calibration(source=None, count=count, sha256=hashlib.sha256(f"samples {count}".encode()).hexdigest())
    path = source.expanduser().absolute()
    if path.is_dir():
        files = _files(path, count)
        digests = [_digest(file) for file in files]
        sha256, found = hashlib.sha256("\n".join(digests).encode()).hexdigest(), len(files)
    else:
        sha256, found = _digest(path), min(count, len(_array(str(path))))
    return Calibration(source=str(path), count=found, sha256=sha256)


def _digest(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise FileProblem(
            f"{path} cannot be read to calibrate with: {error.strerror or error}",
            "name a folder of pictures, or an .npz that holds `images`",
        ) from error


def _files(folder: Path, count: int) -> list[Path]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.is_dir())
    if not files:
        raise FileProblem(f"{folder} holds no pictures to calibrate with", f"put {', '.join(SUFFIXES)} files there")
    return files[:count]


def _opened(path: Path, spec: ModelSpec) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return spec.preprocess.pixels(image)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise FileProblem(f"{path} is not a picture that can be read", "take it out of the folder") from error


def _array(path: str) -> NDArray[Any]:
    import numpy as np

    try:
        # Opened here: of an archive that is cut short, numpy would leave it open.
        with Path(path).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            images: NDArray[Any] = file["images"]
    except (OSError, EOFError, ValueError, KeyError, AttributeError, TypeError, BadZipFile, zlib.error) as error:
        raise FileProblem(
            f"{path} gives no images to calibrate with", "name a folder, or an .npz that holds `images`"
        ) from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not images.size:
        raise FileProblem(
            f"{path}: images are {images.dtype} {images.shape}, not uint8 (n, height, width, 3)",
            "save RGB pixels from 0 to 255",
        )
    return images
