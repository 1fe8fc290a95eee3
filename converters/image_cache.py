"""Images from Python, kept as a folder of PNGs in the user's cache: there the converting child process finds them."""

from __future__ import annotations

import contextlib
import filecmp
import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..models.download import cache_folder
from ..models.errors import FileProblem, Unsupported

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    Images = Iterable[NDArray[np.uint8] | Image]

HINT: Final = (
    "give uint8 arrays (height, width, 3) in RGB, or PIL images after .convert('RGB'); a folder or an .npz as a Path"
)


def keep(images: Images, count: int) -> Path:
    """The folder with the first `count` of `images`: uint8 (height, width, 3) or PIL images, RGB and of any sizes.

    They are taken one by one, once, and no more of them. The folder is named by the sha256 over their pixels, appears
    complete or not at all, and the same images find it again; one that was changed is written anew. Raises
    `Unsupported` for no image and for what is none, `FileProblem` for a picture that cannot be read and for a cache
    that cannot be written.
    """
    folder = cache_folder() / "calibration"
    with _writing():
        folder.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=".", dir=folder)
    with scratch as name:
        staging = Path(name, "images")
        with _writing():
            staging.mkdir()
        destination = folder / _filled(staging, islice(_started(images), count))
        with _writing():
            _put(staging, destination)
    return destination


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    # Around our own writing alone: an iterable's own OSError is the user's to see.
    try:
        yield
    except OSError as error:
        raise FileProblem(
            f"{cache_folder()} cannot be written: {error.strerror or error}",
            "free some space, or set EVIT_EDGE_CACHE",
        ) from error


def _started(images: Images) -> Iterator[object]:
    try:
        return iter(images)
    except TypeError as error:
        raise Unsupported(f"images to calibrate with cannot be of type {type(images).__name__}", HINT) from error


def _filled(staging: Path, images: Iterator[object]) -> str:
    """Save the images in `staging`, in the order of names, and return the sha256 over shapes and pixels."""
    from PIL import Image

    digest, index = hashlib.sha256(), -1
    for index, image in enumerate(images):
        pixels = _pixels(image, index)
        digest.update(f"{pixels.shape}".encode() + pixels.tobytes())
        with _writing():
            # Lossless at any level; a higher one costs more time than it saves space.
            Image.fromarray(pixels).save(staging / f"{index:08}.png", compress_level=1)
    if index < 0:
        raise Unsupported("there are no images to calibrate with", "a generator gives its images once: make a new one")
    return digest.hexdigest()


def _pixels(image: object, index: int) -> NDArray[np.uint8]:
    import numpy as np
    from PIL.Image import Image

    if isinstance(image, Image) and image.mode == "RGB":
        try:
            return np.asarray(image)
        except (OSError, SyntaxError, ValueError) as error:
            raise FileProblem(
                f"calibration image {index}, counted from 0, is not a picture that can be read", "leave it out"
            ) from error
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape[2:] == (3,) and image.size:
        return image
    raise Unsupported(f"calibration image {index}, counted from 0, is {_described(image)}, not RGB pixels", HINT)


def _described(image: object) -> str:
    import numpy as np
    from PIL.Image import Image

    if isinstance(image, Image):
        return f"a PIL image of mode {image.mode}"
    if not isinstance(image, np.ndarray):
        return f"of type {type(image).__name__}"
    faults = int((~np.isfinite(image)).sum()) if image.dtype.kind == "f" else 0
    return f"{image.dtype} {image.shape}{f' with {faults} values that are NaN or infinite' if faults else ''}"


def _put(staging: Path, destination: Path) -> None:
    try:
        staging.rename(destination)
    except OSError:
        # There already: from an earlier call, or from another process just now.
        if _are_same(staging, destination):
            return
        destination.rename(staging.with_name("changed"))
        staging.rename(destination)


def _are_same(one: Path, other: Path) -> bool:
    names = sorted(path.name for path in one.iterdir())
    if names != sorted(path.name for path in other.iterdir()):
        return False
    _, different, unreadable = filecmp.cmpfiles(one, other, names, shallow=False)
    return not different and not unreadable
