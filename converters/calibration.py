"""Images that a quantizer looks at: from a folder, an `.npz`, Python, or those that come with the model."""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final
from zipfile import BadZipFile, ZipFile

from ..models.download import sha256_of
from ..models.errors import FileProblem, UnknownName, Unsupported
from . import histogram, image_cache

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..models.spec import ModelSpec, Preprocess
    from .image_cache import Images

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
CHUNK_VALUES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """`count` images of `source` (a folder or an `.npz`; None: the model's own samples); `sha256` is over them.

    `method`, one of `histogram.NAMES`, chooses the ranges from what the tensors are on them.
    """

    source: str | None
    count: int
    sha256: str
    method: str = "minmax"

    @property
    def identity(self) -> dict[str, Any]:
        """What stands in the manifest: how many images, which by their content, and how the ranges were chosen."""
        return {"count": self.count, "sha256": self.sha256, "method": self.method}

    def pixels(self, spec: ModelSpec) -> Iterator[NDArray[np.uint8]]:
        """The images, one by one, resized and cropped as the model wants them: uint8 (size, size, 3)."""
        if self.source is None:
            yield from spec.calibration_pixels(self.count)
        elif Path(self.source).is_dir():
            yield from (opened(path, spec.preprocess) for path in _files(Path(self.source), self.count))
        else:
            from PIL import Image

            wanted = set(_archive_places(Path(self.source), self.count))
            images = (image for place, image in enumerate(archived(Path(self.source))) if place in wanted)
            yield from (spec.preprocess.pixels(Image.fromarray(image)) for image in images)

    def feeds(self, spec: ModelSpec) -> Iterator[NDArray[np.float32]]:
        """The model's inputs for them, one by one: float32 (1, 3, size, size)."""
        for pixels in self.pixels(spec):
            yield spec.preprocess.normalise(pixels[None])

    def names(self) -> list[str]:
        """What to call each image: its path below the folder, or its number, from 0."""
        if self.source is None:
            return [f"image {index}" for index in range(self.count)]
        source = Path(self.source)
        if source.is_dir():
            return [path.relative_to(source).as_posix() for path in _files(source, self.count)]
        return [f"image {index}" for index in _archive_places(source, self.count)]


def choose(source: Path | Images | None, count: int, method: str = "minmax") -> Calibration:
    """The calibration with `count` images of `source`, fewer if it has fewer, at equal distances over all that it has.

    The first ones could be of one class. A folder is searched to the bottom, in the order of names; an `.npz` holds
    `images`, uint8 (n, height, width, 3).
    Images from Python are kept as a folder first (`image_cache.keep`). Raises `UnknownName` for a method, `Unsupported`
    for a count below one or for what is no image, and `FileProblem` for what cannot be read.
    """
    if method not in histogram.NAMES:
        raise UnknownName.among("calibration method", method, histogram.NAMES)
    if count < 1:
        raise Unsupported(f"calibration with {count} images is not possible", "choose 1 or more")
    if source is None:
        sha256 = hashlib.sha256(f"samples {count}".encode()).hexdigest()
        return Calibration(source=None, count=count, sha256=sha256, method=method)
    path = (source if isinstance(source, Path) else image_cache.keep(source, count)).expanduser().absolute()
    if path.is_dir():
        files = _files(path, count)
        digests = [digest(file) for file in files]
        sha256, found = hashlib.sha256("\n".join(digests).encode()).hexdigest(), len(files)
    else:
        # To the end: only there does an archive turn out to be damaged.
        sha256, found = digest(path), min(count, sum(1 for _ in archived(path)))
    return Calibration(source=str(path), count=found, sha256=sha256, method=method)


def digest(path: Path) -> str:
    """Hexadecimal sha256 of a file of images; raises `FileProblem`."""
    try:
        return sha256_of(path)
    except OSError as error:
        raise FileProblem(
            f"{path} cannot be read: {error.strerror or error}",
            "name a folder of pictures, or an .npz that holds `images`",
        ) from error


def pictures(folder: Path) -> list[Path]:
    """Every picture in `folder`, searched to the bottom, in the order of names."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.is_dir())


def opened(path: Path, preprocess: Preprocess) -> NDArray[np.uint8]:
    """One picture as the model wants it, uint8 (size, size, 3); raises `FileProblem` if it is none."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return preprocess.pixels(image)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise FileProblem(f"{path} is not a picture that can be read", "take it out of the folder") from error


def archived(path: Path, *, start: int = 0) -> Iterator[NDArray[np.uint8]]:
    """The `images` of an `.npz` from number `start` on, one by one, as they are: uint8 (height, width, 3).

    The archive is read as a stream, so its size costs no memory. Raises `FileProblem` for what holds no images, and
    at its end for one that is damaged inside.
    """
    import numpy as np

    with _archive(path) as (file, shape):
        size = math.prod(shape[1:])
        for index in range(shape[0]):
            image = np.frombuffer(file.read(size), np.uint8).reshape(shape[1:])
            if index >= start:
                yield image
        file.read()


@contextmanager
def _archive(path: Path) -> Iterator[tuple[IO[bytes], tuple[int, ...]]]:
    """The `images` of an `.npz` as a file at the first pixel, and their shape."""
    try:
        with ZipFile(path) as archive, archive.open("images.npy") as file:
            yield file, _shape(file, path)
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        RuntimeError,
        BadZipFile,
        zlib.error,
    ) as error:
        raise FileProblem(f"{path} gives no images", "name a folder, or an .npz that holds `images`") from error


def _files(folder: Path, count: int) -> list[Path]:
    files = pictures(folder)
    if not files:
        raise FileProblem(f"{folder} holds no pictures to calibrate with", f"put {', '.join(SUFFIXES)} files there")
    return [files[place] for place in _spread(len(files), count)]


def _archive_places(path: Path, count: int) -> list[int]:
    """Which images of an `.npz` are taken."""
    with _archive(path) as (_, shape):
        return _spread(shape[0], count)


def _spread(of: int, count: int) -> list[int]:
    """`count` numbers below `of`, or all, at equal distances."""
    return [place * of // count for place in range(count)] if count < of else list(range(of))


def _shape(file: IO[bytes], path: Path) -> tuple[int, ...]:
    """What the head of an `images.npy` says, with the file at the first pixel after it."""
    import numpy as np

    npy: Any = np.lib.format
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(file)
    if version not in readers:
        raise ValueError(f"version {version} is for arrays of records")
    shape, by_columns, dtype = readers[version](file)
    if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or not math.prod(shape):
        raise FileProblem(
            f"{path}: images are {dtype} {shape}{_faults(file, dtype)}, not uint8 (n, height, width, 3)",
            "save RGB pixels from 0 to 255",
        )
    if by_columns:
        raise FileProblem(f"{path}: its images are stored by column", "save np.ascontiguousarray(images)")
    return tuple(shape)


def _faults(file: IO[bytes], dtype: np.dtype[Any]) -> str:
    """How many of the floats that follow in `file` are NaN or infinite, if any."""
    import numpy as np

    if dtype.kind != "f":
        return ""
    parts = iter(lambda: file.read(CHUNK_VALUES * dtype.itemsize), b"")
    count = sum(int((~np.isfinite(np.frombuffer(part, dtype))).sum()) for part in parts)
    return f" with {count} values that are NaN or infinite" if count else ""
