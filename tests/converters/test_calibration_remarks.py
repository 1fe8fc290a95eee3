"""What is said of calibration images: each fault on a line of its own with its number, and of good ones nothing."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from evit_edge.converters.calibration import choose
from evit_edge.converters.calibration_remarks import ENOUGH, remarks
from evit_edge.converters.conversion import plan
from evit_edge.converters.convert import convert
from evit_edge.device_bench.session import execute
from evit_edge.models.errors import FileProblem
from evit_edge.models.spec import ModelRequest, ModelSpec, find

Pixels = NDArray[np.uint8]
BLACK = np.zeros((70, 70, 3), np.uint8)


@cache
def spec() -> ModelSpec:
    return find(ModelRequest(name="efficientvit_m0", weights="random", img_size=64))


def pictures(count: int) -> list[Pixels]:
    """Grids of few values, which are quick to make and to save."""
    return [np.random.default_rng(index).integers(0, 256, (7, 7, 3), dtype=np.uint8) for index in range(count)]


def said(images: Path | Iterable[Pixels] | None, count: int = 1000) -> list[str]:
    return remarks(choose(images, count), spec())


def archive(path: Path, images: list[Pixels], **arrays: Any) -> Path:
    np.savez(path, images=np.stack(images), **arrays)
    return path


def save(folder: Path, images: dict[str, Pixels]) -> Path:
    for name, image in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name)
    return folder


def test_of_enough_different_images_nothing_is_said(tmp_path: Path) -> None:
    good = pictures(ENOUGH)
    assert said(good) == []
    assert said(archive(tmp_path / "x.npz", good, labels=np.zeros(ENOUGH, int))) == []
    assert said(save(tmp_path / "flat", {f"{index}.png": image for index, image in enumerate(good)})) == []
    assert said(None, ENOUGH) == []


@pytest.mark.parametrize("own", [True, False])
def test_too_few_are_counted(own: bool) -> None:
    (line,) = said(None if own else pictures(ENOUGH), ENOUGH - 1)
    assert line.startswith(f"calibrated on {ENOUGH - 1} different images: below {ENOUGH} ")
    assert "\n" not in line


def test_one_image_is_called_one() -> None:
    (line,) = said(pictures(1))
    assert line.startswith("calibrated on 1 image: ")


def test_copies_are_counted_and_do_not_make_images_more() -> None:
    few, copies = said([*pictures(10), *pictures(10), *pictures(10), pictures(1)[0]])
    assert few.startswith("calibrated on 10 different images")
    assert copies.startswith("21 of 31 calibration images repeat")
    (copies,) = said([*pictures(ENOUGH), pictures(1)[0]])
    assert copies.startswith(f"1 of {ENOUGH + 1} ")


def test_images_that_differ_only_where_they_are_cut_off_are_copies() -> None:
    preprocess = spec().preprocess
    wide = np.zeros((preprocess.resize, 2 * preprocess.resize, 3), np.uint8)
    wide[10:40, preprocess.resize - 9 :] = 200
    other = wide.copy()
    other[:, 0] = 255
    _, copies = said([wide, other])
    assert copies.startswith("1 of 2 ")


def test_images_of_one_colour_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    good = {f"good/{index:02}.png": image for index, image in enumerate(pictures(ENOUGH))}
    folder = save(tmp_path / "p", {**good, "lens/cap.png": BLACK, "lens/sky.png": BLACK + np.uint8(200)})
    (line,) = said(folder)
    assert line.startswith(f"2 of {ENOUGH + 2} calibration images are of a single colour, the first is lens/cap.png: ")


def test_in_an_archive_an_image_of_one_colour_has_a_number(tmp_path: Path) -> None:
    images = pictures(ENOUGH)
    images[5] = np.full_like(images[5], [10, 20, 30])
    images[6] = np.full_like(images[6], 0)
    images[6][::2, ::2] = 255
    (line,) = said(archive(tmp_path / "x.npz", images, labels=np.zeros(ENOUGH, int)))
    assert line.startswith(f"1 of {ENOUGH} ")
    assert "the first is image 5: " in line


def test_images_without_a_label_are_mentioned_where_others_have_one(tmp_path: Path) -> None:
    classes = {f"cat/{index}.png": image for index, image in enumerate(pictures(ENOUGH))}
    assert said(save(tmp_path / "p", classes)) == []
    (line,) = said(save(tmp_path / "p", {"loose.png": pictures(40)[39], "m.PNG": pictures(41)[40]}))
    assert line.startswith(f"2 of {ENOUGH + 2} calibration images lie beside the class folders")
    assert line.endswith("calibration needs none, but eval cannot score them")


def test_an_archive_without_labels_is_mentioned(tmp_path: Path) -> None:
    (line,) = said(archive(tmp_path / "x.npz", pictures(ENOUGH)))
    assert line == "the images of x.npz have no labels: calibration needs none, but eval cannot score them"


def test_a_picture_that_cannot_be_read_is_named_as_ever(tmp_path: Path) -> None:
    folder = save(tmp_path / "p", {f"{index}.png": image for index, image in enumerate(pictures(3))})
    (folder / "1.png").write_text("no picture")
    with pytest.raises(FileProblem, match=r"1\.png is not a picture"):
        said(folder)


@pytest.mark.slow
def test_an_artifact_keeps_them_and_is_made_nevertheless(tmp_path: Path) -> None:
    model = find(ModelRequest(name="efficientvit_m0", weights="demo"))
    digits = list(model.calibration_pixels(6))
    given = (image for image in [*digits, digits[0], np.zeros_like(digits[0])])
    conversion = plan(model, "tflite", precision="int8", images=4, calibrate=given)
    artifact = convert(conversion, tmp_path, execute=execute, engine="litert")
    assert conversion.calibration is not None
    assert artifact.manifest.options["calibration"] == conversion.calibration.identity
    few, copies, plain = (note for note in artifact.manifest.notes if "calibrat" in note)
    assert few.startswith("calibrated on 7 different images")
    assert copies.startswith("1 of 8 ")
    assert "single colour, the first is 00000007.png" in plain
