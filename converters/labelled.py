"""Images whose class is known, to count right answers on: a folder of class folders, or an `.npz` with `labels`."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zipfile import BadZipFile

from ..models.errors import FileProblem
from .calibration import SUFFIXES, archived, digest, opened, pictures

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..models.spec import Preprocess

LAYOUT: Final = "name a folder with one folder a class, or an .npz with `images` and `labels`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """The labels of the images of `source`, in their order, and a `sha256` over what was read.

    A label is a place in `folders`, the class folders' names; of an `.npz`, which has none, the model's class.
    """

    source: Path
    labels: tuple[int, ...]
    folders: tuple[str, ...]
    sha256: str

    def classes(self, count: int, names: Sequence[str] | None) -> NDArray[np.int64]:
        """The class of each image, int64 (n,), for a model with `count` classes, called `names`.

        Folders are found by name among the model's labels (its class numbers, if it has none); where none of them is
        there, the folder in place k of their order is class k. Raises `FileProblem` where some are and some are not,
        where there are more or fewer than classes, and for a label that the model does not have.
        """
        import numpy as np

        labels = np.asarray(self.labels, np.int64)
        if self.folders:
            return np.asarray(self._numbers(names or [str(number) for number in range(count)]), np.int64)[labels]
        outside = labels[(labels < 0) | (labels >= count)]
        if outside.size:
            raise FileProblem(
                f"{self.source}: label {outside[0]} is none of the model's {count} classes", "count classes from 0"
            )
        return labels

    def _numbers(self, names: Sequence[str]) -> Sequence[int]:
        known = {name: number for number, name in enumerate(names)}
        strange = [folder for folder in self.folders if folder not in known]
        if not strange:
            return [known[folder] for folder in self.folders]
        if len(strange) < len(self.folders):
            raise FileProblem(
                f"{self.source}: {strange[0]} is none of the model's labels, and other folders are",
                "give all folders the names of labels, or none",
            )
        if len(self.folders) != len(names):
            raise FileProblem(
                f"{self.source} has {len(self.folders)} class folders, and the model {len(names)} classes",
                "call them by the model's labels, or add an empty folder for each class without pictures",
            )
        return range(len(names))


def read(source: Path, *, limit: int | None = None) -> Labelled:
    """The labels of the first `limit` images of `source`, or of all, and what the images are, by content.

    An `.npz` holds `images`, uint8 (n, height, width, 3), and `labels`, integers (n,). The images of a folder come in
    turns, one from each class, so that the first few are no single class. Raises `FileProblem` for what cannot be
    read, for no image, and for images without a label.
    """
    path = source.expanduser().absolute()
    if not path.is_dir():
        sha256 = digest(path)
        return Labelled(source=path, labels=_labels(path)[:limit], folders=(), sha256=sha256)
    folders, found = _in_turns(path, limit)
    parts = [f"{folders[place]} {digest(file)}\n" for place, file in found]
    return Labelled(
        source=path,
        labels=tuple(place for place, _ in found),
        folders=tuple(folders),
        sha256=hashlib.sha256("".join(parts).encode()).hexdigest(),
    )


def pixels(source: Path, preprocess: Preprocess, *, start: int, stop: int) -> Iterator[NDArray[np.uint8]]:
    """The images from `start` to `stop`, one by one, resized and cropped: uint8 (size, size, 3).

    Raises `FileProblem` for one that cannot be read.
    """
    if source.is_dir():
        yield from (opened(file, preprocess) for _, file in _in_turns(source, stop)[1][start:])
        return
    from PIL import Image

    for image in islice(archived(source, start=start), stop - start):
        yield preprocess.pixels(Image.fromarray(image))


def _in_turns(folder: Path, limit: int | None) -> tuple[list[str], list[tuple[int, Path]]]:
    """The class folders' names, and the pictures with the place of their class among them."""
    try:
        inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise FileProblem(f"{folder} cannot be read: {error.strerror or error}", LAYOUT) from error
    names = [path.name for path in inside if path.is_dir()]
    loose = next((path for path in inside if path.suffix.lower() in SUFFIXES and path.is_file()), None)
    if loose:
        raise FileProblem(f"{loose} has no label: it lies in no class folder", LAYOUT)
    found = [
        (turn, place, file) for place, name in enumerate(names) for turn, file in enumerate(pictures(folder / name))
    ]
    if not found:
        raise FileProblem(f"{folder} holds no pictures", LAYOUT)
    return names, [(place, file) for _, place, file in sorted(found)][:limit]


def _labels(path: Path) -> tuple[int, ...]:
    import numpy as np

    count = sum(1 for _ in archived(path))
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            labels: NDArray[Any] = file["labels"]
    except (OSError, EOFError, ValueError, KeyError, BadZipFile, zlib.error) as error:
        raise FileProblem(f"{path} gives no labels", LAYOUT) from error
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        raise FileProblem(
            f"{path}: labels are {labels.dtype} {labels.shape}, not integers ({count},)",
            "give each image the number of its class, from 0",
        )
    return tuple(int(label) for label in labels)
