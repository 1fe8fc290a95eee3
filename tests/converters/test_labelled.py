"""Labelled images: which class each has, in what order they come, and what is refused with its name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evit_edge.converters.labelled import Labelled, pixels, read
from evit_edge.models.errors import FileProblem
from evit_edge.models.spec import Preprocess

PREPROCESS = Preprocess(size=16, resize=16)
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 20, 24, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 2, 1, 0])


def save(path: Path, **arrays: Any) -> Path:
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def folders(path: Path, **counts: int) -> Path:
    """A class folder for each name, with so many pictures of different sizes."""
    for name, count in counts.items():
        (path / name).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(IMAGES[index, : 18 + index]).save(path / name / f"{index}.png")
    return path


def classes(data: Labelled, count: int = 3, names: tuple[str, ...] | None = None) -> list[int]:
    found = data.classes(count, names)
    assert found.dtype == np.int64
    return [int(number) for number in found]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.int64, np.uint64])
def test_an_archive_gives_images_and_classes(tmp_path: Path, dtype: Any) -> None:
    path = save(tmp_path / "x.npz", images=IMAGES, labels=LABELS.astype(dtype), other=np.zeros(2))
    assert classes(read(path)) == LABELS.tolist()
    found = list(pixels(path, PREPROCESS, start=0, stop=6))
    for image, expected in zip(found, IMAGES, strict=True):
        np.testing.assert_array_equal(image, PREPROCESS.pixels(Image.fromarray(expected)))


@pytest.mark.parametrize("stored", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(("start", "stop"), [(0, 2), (2, 5), (5, 6), (6, 6)])
def test_any_range_is_read_alone(tmp_path: Path, stored: Any, start: int, stop: int) -> None:
    archive = tmp_path / "x.npz"
    stored(archive, images=IMAGES, labels=LABELS)
    pictures = folders(tmp_path / "p", a=3, b=3)
    for source in (archive, pictures):
        whole = list(pixels(source, PREPROCESS, start=0, stop=6))
        part = list(pixels(source, PREPROCESS, start=start, stop=stop))
        assert len(whole) == 6
        assert [image.tobytes() for image in part] == [image.tobytes() for image in whole[start:stop]]


def test_folders_take_turns_so_that_a_limit_is_no_single_class(tmp_path: Path) -> None:
    source = folders(tmp_path / "p", cat=3, dog=1, owl=2)
    assert classes(read(source)) == [0, 1, 2, 0, 2, 0]
    assert classes(read(source, limit=4)) == [0, 1, 2, 0]
    assert read(source, limit=4).sha256 != read(source).sha256


def test_a_limit_beyond_the_end_is_the_end(tmp_path: Path) -> None:
    path = save(tmp_path / "x.npz", images=IMAGES, labels=LABELS)
    assert classes(read(path, limit=100)) == LABELS.tolist()
    assert classes(read(path, limit=2)) == [0, 1]


def test_folders_are_found_by_the_models_labels(tmp_path: Path) -> None:
    source = folders(tmp_path / "p", cat=1, dog=1)
    assert classes(read(source), 4, ("owl", "dog", "ant", "cat")) == [3, 1]


def test_folders_called_by_numbers_are_those_classes(tmp_path: Path) -> None:
    source = folders(tmp_path / "p", **{"10": 1, "2": 1})
    assert classes(read(source), 11) == [10, 2]


def test_folders_of_other_names_are_classes_in_their_order_and_one_may_be_empty(tmp_path: Path) -> None:
    source = folders(tmp_path / "p", n01=1, n02=0, n03=1)
    (source / ".cache").mkdir()
    (source / "readme.txt").write_text("no picture")
    assert classes(read(source), 3, ("tench", "goldfish", "shark")) == [0, 2]


@pytest.mark.parametrize(
    ("names", "count", "says"),
    [
        (("cat", "ant", "owl"), 3, "dog is none of the model's labels"),
        (("ant", "bee", "owl"), 3, "2 class folders, and the model 3 classes"),
        (None, 1, "2 class folders, and the model 1 classes"),
    ],
)
def test_folders_that_are_not_the_models_classes_are_refused(
    tmp_path: Path, names: tuple[str, ...] | None, count: int, says: str
) -> None:
    data = read(folders(tmp_path / "p", cat=1, dog=1))
    with pytest.raises(FileProblem, match=says):
        data.classes(count, names)


@pytest.mark.parametrize("label", [-1, 2, 1000])
def test_a_label_that_the_model_does_not_have_is_named(tmp_path: Path, label: int) -> None:
    path = save(tmp_path / "x.npz", images=IMAGES[:2], labels=np.array([0, label]))
    with pytest.raises(FileProblem, match=f"label {label} is none of the model's 2 classes"):
        read(path).classes(2, None)


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    one = read(save(tmp_path / "a.npz", images=IMAGES, labels=LABELS))
    other = read(save(tmp_path / "b.npz", images=IMAGES, labels=(LABELS + 1) % 3))
    assert one.sha256 != other.sha256
    source = folders(tmp_path / "p", cat=1, dog=1)
    before = read(source).sha256
    (source / "cat").rename(source / "ant")
    renamed = read(source).sha256
    (source / "dog" / "0.png").write_bytes((source / "dog" / "0.png").read_bytes() + b"x")
    assert len({before, renamed, read(source).sha256}) == 3


def cut_short(path: Path) -> None:
    save(path, images=IMAGES, labels=LABELS)
    path.write_bytes(path.read_bytes()[:2000])


def damaged(path: Path) -> None:
    save(path, images=IMAGES, labels=LABELS)
    content = bytearray(path.read_bytes())
    content[1000:1100] = bytes(100)
    path.write_bytes(content)


def loose_picture(path: Path) -> None:
    folders(path, cat=1)
    Image.fromarray(IMAGES[0]).save(path / "loose.png")


def labels_damaged(path: Path) -> None:
    """The head of the labels' array says nothing."""
    import zipfile

    save(path, images=IMAGES)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.npy", b"\x93NUMPY\x01\x00 not a head")


def arrays(**values: Any) -> Callable[[Path], object]:
    return lambda path: save(path, **values)


@pytest.mark.parametrize(
    "fault",
    [
        lambda path: None,
        lambda path: path.mkdir(),
        lambda path: folders(path, cat=0, dog=0),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("not an archive"),
        loose_picture,
        cut_short,
        damaged,
        labels_damaged,
        arrays(images=IMAGES),
        arrays(labels=LABELS),
        arrays(images=IMAGES[:0], labels=LABELS[:0]),
        arrays(images=IMAGES, labels=LABELS[:-1]),
        arrays(images=IMAGES, labels=LABELS[:, None]),
        arrays(images=IMAGES, labels=LABELS.astype(np.float32)),
        arrays(images=IMAGES, labels=LABELS == 0),
        arrays(images=IMAGES, labels=np.array(["cat"] * 6)),
        arrays(images=IMAGES, labels=np.array([None] * 6)),
        arrays(images=IMAGES.astype(np.float32), labels=LABELS),
        arrays(images=IMAGES[..., 0], labels=LABELS),
        arrays(images=np.asfortranarray(IMAGES), labels=LABELS),
        arrays(images=np.array([None] * 6), labels=LABELS),
    ],
)
def test_what_cannot_be_counted_is_refused_with_its_name_in_one_line(tmp_path: Path, fault: Any) -> None:
    path = tmp_path / "data"
    fault(path)
    with pytest.raises(FileProblem) as caught:
        read(path)
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_a_file_that_is_only_called_a_picture_is_named(tmp_path: Path) -> None:
    source = folders(tmp_path / "p", cat=2)
    (source / "cat" / "1.png").write_bytes(b"not a picture")
    assert len(read(source).labels) == 2
    with pytest.raises(FileProblem, match=r"1\.png is not a picture"):
        list(pixels(source, PREPROCESS, start=0, stop=2))
