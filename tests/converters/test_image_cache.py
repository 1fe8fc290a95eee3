"""Images from Python become a folder in the cache: whole or not at all, found again, and refused with their number."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from evit_edge.converters.conversion import plan
from evit_edge.converters.image_cache import keep
from evit_edge.models.errors import EdgeError, FileProblem, Unsupported
from evit_edge.models.spec import ModelRequest, find

Pixels = NDArray[np.uint8]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVIT_EDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def picture(index: int, size: tuple[int, int] = (9, 12)) -> Pixels:
    return np.random.default_rng(index).integers(0, 256, (*size, 3), dtype=np.uint8)


def pictures(count: int) -> list[Pixels]:
    return [picture(index, (9 + index, 12)) for index in range(count)]


def kept(folder: Path) -> list[Pixels]:
    return [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]


def leftovers(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path != cache / "calibration"]


@pytest.mark.parametrize("made", [list, iter, tuple])
def test_arrays_and_pil_images_are_kept_as_they_are_and_in_order(made: Any) -> None:
    images = [*pictures(12), picture(99)[:, ::-2], np.asfortranarray(picture(98))]
    given = [Image.fromarray(image) if index % 3 else image for index, image in enumerate(images)]
    for found, expected in zip(kept(keep(made(given), 100)), images, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_no_more_are_asked_for_than_are_used() -> None:
    images = iter(pictures(5))
    assert len(kept(keep(images, 3))) == 3
    np.testing.assert_array_equal(next(images), pictures(4)[3])


def test_the_same_images_are_one_folder_and_others_another(cache: Path) -> None:
    folder = keep(pictures(4), 100)
    before = folder.stat().st_ino
    again = keep((Image.fromarray(image) for image in pictures(6)), 4)
    assert (again, again.stat().st_ino) == (folder, before)
    others = {keep(pictures(4)[::-1], 4), keep(pictures(3), 4), keep([picture(0, (12, 9))], 4), keep([picture(0)], 4)}
    assert len(others) == 4
    assert sorted((cache / "calibration").iterdir()) == sorted([folder, *others])


def test_images_are_not_told_apart_by_their_bytes_alone() -> None:
    one = picture(0, (6, 4))
    assert keep([one], 1) != keep([one.reshape(4, 6, 3)], 1)
    assert keep([one], 1) != keep([one[:3], one[3:]], 2)


@pytest.mark.parametrize("damage", ["changed", "gone", "added"])
def test_a_folder_that_was_changed_is_written_anew(cache: Path, damage: str) -> None:
    folder = keep(pictures(3), 3)
    if damage == "changed":
        Image.fromarray(picture(7)).save(folder / "00000001.png")
    elif damage == "gone":
        (folder / "00000001.png").unlink()
    else:
        Image.fromarray(picture(7)).save(folder / "00000003.png")
    assert keep(pictures(3), 3) == folder
    for found, expected in zip(kept(folder), pictures(3), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert list((cache / "calibration").iterdir()) == [folder]


def test_several_at_once_do_not_harm_each_other(cache: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(lambda _: keep(pictures(8), 8), range(16)))
    (folder,) = folders
    assert len(kept(folder)) == 8
    assert list((cache / "calibration").iterdir()) == [folder]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, FileNotFoundError, ZeroDivisionError])
def test_an_interruption_leaves_nothing_and_is_passed_on(cache: Path, interruption: type[BaseException]) -> None:
    def images() -> Iterator[Pixels]:
        yield from pictures(2)
        assert len([path for path in leftovers(cache) if path.suffix == ".png"]) == 2
        raise interruption

    with pytest.raises(interruption):
        keep(images(), 100)
    assert leftovers(cache) == []


def half_nan() -> NDArray[np.float32]:
    values = np.zeros((4, 4, 3), np.float32)
    values[0] = np.nan
    values[1, 0, 0] = np.inf
    return values


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (half_nan(), r"float32 \(4, 4, 3\) with 13 values that are NaN or infinite, not"),
        (np.zeros((4, 4, 3)), r"float64 \(4, 4, 3\), not"),
        (np.zeros((4, 4, 3), np.int64), r"int64 \(4, 4, 3\), not"),
        (np.zeros((4, 4), np.uint8), r"uint8 \(4, 4\), not"),
        (np.zeros((4, 4, 1), np.uint8), r"uint8 \(4, 4, 1\), not"),
        (np.zeros((3, 4, 4), np.uint8), r"uint8 \(3, 4, 4\), not"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"uint8 \(1, 4, 4, 3\), not"),
        (np.zeros((0, 4, 3), np.uint8), r"uint8 \(0, 4, 3\), not"),
        (Image.new("L", (4, 4)), "a PIL image of mode L, not"),
        (Image.new("RGBA", (4, 4)), "a PIL image of mode RGBA, not"),
        ("a/picture.png", "of type str, not"),
        ((picture(0), 3), "of type tuple, not"),
        (None, "of type NoneType, not"),
    ],
)
def test_what_is_no_image_is_refused_with_its_number(cache: Path, image: Any, says: str) -> None:
    with pytest.raises(Unsupported, match=f"^calibration image 2, counted from 0, is {says} RGB pixels") as caught:
        keep([*pictures(2), image], 100)
    assert "uint8 arrays (height, width, 3)" in caught.value.hint
    assert "\n" not in str(caught.value)
    assert leftovers(cache) == []


def test_a_picture_that_ends_early_is_refused_with_its_number(tmp_path: Path, cache: Path) -> None:
    Image.fromarray(picture(0, (90, 90))).save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:9000])
    with Image.open(tmp_path / "half.png") as half, pytest.raises(FileProblem, match="image 1, counted from 0"):
        keep([picture(0), half], 100)
    assert leftovers(cache) == []


@pytest.mark.parametrize(
    ("images", "says"),
    [
        ([], "no images to calibrate with"),
        (iter(()), "no images to calibrate with"),
        (7, "cannot be of type int"),
        (Image.new("RGB", (4, 4)), "cannot be of type Image"),
        ("folder", "image 0, counted from 0, is of type str"),
        (picture(0), r"image 0, counted from 0, is uint8 \(12, 3\)"),
    ],
)
def test_what_gives_no_images_is_refused(cache: Path, images: Any, says: str) -> None:
    with pytest.raises(Unsupported, match=says) as caught:
        keep(images, 100)
    assert caught.value.hint
    assert leftovers(cache) == []


def test_a_cache_that_cannot_be_written_is_named(cache: Path) -> None:
    cache.write_text("a file")
    with pytest.raises(FileProblem, match=f"{cache} cannot be written.*EVIT_EDGE_CACHE"):
        keep(pictures(1), 1)


def test_nothing_is_asked_for_where_the_request_is_refused_anyway() -> None:
    spec = find(ModelRequest(name="efficientvit_m0", weights="random", img_size=64))
    images = iter(pictures(2))
    refused: list[dict[str, Any]] = [
        {"precision": "fp32"},
        {"precision": "int8", "calibration_images": 0},
        {"precision": "int8", "calibration_method": "median"},
    ]
    for asked in refused:
        with pytest.raises(EdgeError):
            plan(spec, "onnx", calibrate=images, **asked)
    assert len(list(images)) == 2
