"""What is to be said of the images that a calibration uses: few, the same again, of one colour, without a label."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zipfile import ZipFile

if TYPE_CHECKING:
    from ..models.spec import ModelSpec
    from .calibration import Calibration

# Measured: docs/calibration.md has the table.
ENOUGH: Final = 32


def remarks(calibration: Calibration, spec: ModelSpec) -> list[str]:
    """A line, with numbers and a hint, for each fault of the images as the model gets to see them.

    One pass over the resized and cropped pixels, which keeps 32 bytes of each image. Raises `FileProblem` for one that
    cannot be read.
    """
    different, plain = set[bytes](), list[int]()
    for index, pixels in enumerate(calibration.pixels(spec)):
        different.add(hashlib.sha256(pixels.tobytes()).digest())
        if (pixels == pixels[0, 0]).all():
            plain.append(index)
    said = [
        _few(len(different)),
        _copies(calibration.count - len(different), calibration.count),
        _plain(plain, calibration),
        _unlabelled(calibration),
    ]
    return [line for line in said if line]


def _few(count: int) -> str:
    if count >= ENOUGH:
        return ""
    images = "1 image" if count == 1 else f"{count} different images"
    return f"calibrated on {images}: below {ENOUGH} the result depends on which they are, so give more"


def _copies(count: int, of: int) -> str:
    return f"{count} of {of} calibration images repeat the pixels of another: give different ones" if count else ""


def _plain(places: list[int], calibration: Calibration) -> str:
    if not places:
        return ""
    first = calibration.names()[places[0]]
    return (
        f"{len(places)} of {calibration.count} calibration images are of a single colour, the first is {first}: "
        "take them out"
    )


def _unlabelled(calibration: Calibration) -> str:
    """Softly: nothing but `eval` needs labels. The model's own samples are nobody's to label."""
    but = "calibration needs none, but eval cannot score them"
    if calibration.source is None:
        return ""
    source = Path(calibration.source)
    if not source.is_dir():
        with ZipFile(source) as archive:
            has_labels = "labels.npy" in archive.namelist()
        return "" if has_labels else f"the images of {source.name} have no labels: {but}"
    loose = sum("/" not in name for name in calibration.names())
    if loose in (0, calibration.count):
        return ""
    return f"{loose} of {calibration.count} calibration images lie beside the class folders, without a label: {but}"
