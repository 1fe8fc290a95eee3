"""Which images a quantizer gets to see: found, counted, told apart by content, and refused with their name."""

import shutil
import tempfile
import tracemalloc
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from evit_edge.converters.calibration import Calibration, choose
from evit_edge.models.errors import FileProblem, Unsupported
from evit_edge.models.spec import ModelRequest, ModelSpec, find

COUNT = 5
PIXELS = np.zeros((2, 8, 8, 3), np.uint8)


@cache
def small() -> ModelSpec:
    return find(ModelRequest(name="efficientvit_m0", weights="random", img_size=64))


@pytest.fixture
def spec() -> ModelSpec:
    return small()


def picture(index: int, size: tuple[int, int] = (80, 100)) -> np.ndarray[Any, Any]:
    return np.random.default_rng(index).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "pictures"
    made.mkdir()
    for index in range(COUNT):
        Image.fromarray(picture(index)).save(made / f"{index}.png")
    return made


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    np.savez_compressed(tmp_path / "pictures.npz", images=np.stack([picture(index) for index in range(COUNT)]))
    return tmp_path / "pictures.npz"


def test_a_folder_gives_pictures_from_all_over_in_the_order_of_their_names(folder: Path, spec: ModelSpec) -> None:
    chosen = choose(folder, 3)
    expected = [spec.preprocess.pixels(Image.fromarray(picture(index))) for index in (0, 1, 3)]
    np.testing.assert_array_equal(np.stack(list(chosen.pixels(spec))), np.stack(expected))
    feeds = list(chosen.feeds(spec))
    assert [feed.shape for feed in feeds] == [(1, 3, 64, 64)] * 3
    assert all(feed.dtype == np.float32 for feed in feeds)
    np.testing.assert_array_equal(feeds[0], spec.preprocess.normalise(expected[0][None]))


def test_a_folder_is_searched_to_the_bottom_and_what_is_no_picture_is_left_alone(folder: Path, spec: ModelSpec) -> None:
    deep = folder / "cats" / "of 2024.png"
    deep.mkdir(parents=True)
    Image.fromarray(picture(9)).convert("L").save(deep / "grey.JPG")
    Image.fromarray(picture(10)).convert("P").save(deep / "palette.bmp")
    (folder / "labels.csv").write_text("0,cat")
    chosen = choose(folder, 100)
    assert chosen.count == COUNT + 2
    assert all(pixels.shape == (64, 64, 3) for pixels in chosen.pixels(spec))


def test_an_archive_gives_its_images(archive: Path, folder: Path, spec: ModelSpec) -> None:
    for found, expected in zip(choose(archive, 4).pixels(spec), choose(folder, 4).pixels(spec), strict=True):
        np.testing.assert_array_equal(found, expected)


def feeds(chosen: Calibration) -> list[bytes]:
    return [feed.tobytes() for feed in chosen.feeds(small())]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90), st.integers(0, 3)), min_size=1, max_size=12), st.data()
)
def test_an_iterable_is_the_same_as_its_images_in_a_folder_and_stays_so(
    sizes: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    images = [picture(seed, (height, width)) for height, width, seed in sizes]
    count = data.draw(st.integers(1, len(images) + 1))
    kinds = data.draw(st.lists(st.booleans(), min_size=len(images), max_size=len(images)))
    chosen = choose(
        (Image.fromarray(image) if kind else image for image, kind in zip(images, kinds, strict=True)), count
    )
    with tempfile.TemporaryDirectory() as name:
        for index, image in enumerate(images[:count]):
            Image.fromarray(image).save(Path(name, f"{index:03}.png"))
        assert feeds(chosen) == feeds(choose(Path(name), count))
    assert choose(iter(images), count) == chosen
    assert feeds(chosen) == feeds(chosen)
    used = [(image.shape, image.tobytes()) for image in images[:count]]
    turned = choose(images[:count][::-1], count)
    assert (turned.identity == chosen.identity) == (used == used[::-1])


@pytest.mark.parametrize("source", ["folder", "archive"])
def test_every_image_has_a_name(request: pytest.FixtureRequest, source: str) -> None:
    names = choose(request.getfixturevalue(source), 3).names()
    assert names == {"folder": ["0.png", "1.png", "3.png"], "archive": ["image 0", "image 1", "image 3"]}[source]


@pytest.mark.parametrize("source", ["archive", "iterable"])
def test_the_number_of_images_costs_no_memory(tmp_path: Path, spec: ModelSpec, source: str) -> None:
    count = 150
    images: Any = (picture(index) for index in range(count))
    if source == "archive":
        np.savez(tmp_path / "x.npz", images=np.stack(list(images)))
        images = tmp_path / "x.npz"
    tracemalloc.start()
    try:
        assert sum(1 for _ in choose(images, count).feeds(spec)) == count
        # All of them are 3.6 MB, and as inputs 7.4 MB.
        assert tracemalloc.get_traced_memory()[1] < 1.5e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("source", ["folder", "archive"])
def test_more_than_there_are_is_all_there_are(request: pytest.FixtureRequest, source: str, spec: ModelSpec) -> None:
    chosen = choose(request.getfixturevalue(source), 1000)
    assert chosen.count == COUNT
    assert chosen.identity["count"] == COUNT
    assert len(list(chosen.pixels(spec))) == COUNT


def test_the_digest_is_that_of_the_images_and_not_of_their_place(folder: Path, tmp_path: Path) -> None:
    first = choose(folder, 4)
    moved = choose(Path(shutil.move(folder, tmp_path / "elsewhere")), 4)
    assert moved.identity == first.identity
    assert moved.source != first.source
    Image.fromarray(picture(99)).save(tmp_path / "elsewhere" / "4.png")
    assert choose(tmp_path / "elsewhere", 4).identity == first.identity
    Image.fromarray(picture(99)).save(tmp_path / "elsewhere" / "3.png")
    changed = choose(tmp_path / "elsewhere", 4)
    assert changed.sha256 != first.sha256
    assert choose(tmp_path / "elsewhere", 3).sha256 not in (first.sha256, changed.sha256)


def test_a_changed_archive_has_another_digest(archive: Path) -> None:
    before = choose(archive, 4)
    np.savez_compressed(archive, images=np.stack([picture(index) for index in range(1, COUNT)]))
    assert choose(archive, 4).sha256 != before.sha256


def test_a_relative_path_is_found_from_another_folder_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch, spec: ModelSpec
) -> None:
    monkeypatch.chdir(folder.parent)
    chosen = choose(Path("pictures"), 2)
    monkeypatch.chdir("/")
    assert len(list(chosen.pixels(spec))) == 2


@pytest.mark.parametrize("weights", ["demo", "random"])
def test_the_models_own_images_are_never_those_that_the_gate_looks_at(weights: str) -> None:
    spec = find(ModelRequest(name="efficientvit_m0", weights=weights))
    seen = {pixels.tobytes() for pixels in choose(None, 64).pixels(spec)}
    judged = {pixels.tobytes() for pixels in spec.sample_pixels(64)}
    assert len(seen) == len(judged) == 64
    assert not seen & judged


def test_the_models_own_images_are_told_apart_by_their_number() -> None:
    assert choose(None, 8).identity == choose(None, 8).identity
    assert choose(None, 8).identity != choose(None, 9).identity


def test_more_digits_than_there_are_is_refused() -> None:
    spec = find(ModelRequest(name="efficientvit_m0", weights="demo"))
    with pytest.raises(Unsupported, match="there are 1433 training digits, not 5000"):
        list(choose(None, 5000).pixels(spec))


@pytest.mark.parametrize("count", [0, -3])
def test_no_image_is_refused(folder: Path, count: int) -> None:
    for source in (None, folder):
        with pytest.raises(Unsupported, match=f"{count} images is not possible"):
            choose(source, count)


def without(path: Path) -> None:
    assert not path.exists()


def empty_folder(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("no picture")


def broken_link(path: Path) -> None:
    path.mkdir()
    (path / "gone.png").symlink_to(path / "nowhere.png")


def cut_short(path: Path) -> None:
    whole = path.with_name("whole.npz")
    np.savez_compressed(whole, images=np.stack([picture(0)]))
    path.write_bytes(whole.read_bytes()[:2000])


def damaged_inside(path: Path) -> None:
    cut_short(path)
    content = bytearray(path.with_name("whole.npz").read_bytes())
    content[1000:1100] = bytes(100)
    path.write_bytes(content)


def lone_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, PIXELS)


def array(values: Any, name: str = "images") -> Any:
    def saved(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, **{name: values})

    return saved


@pytest.mark.parametrize(
    "fault",
    [
        without,
        empty_folder,
        broken_link,
        cut_short,
        damaged_inside,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("not an archive"),
        lone_array,
        array(PIXELS, name="pictures"),
        array(PIXELS / np.nan),
        array(PIXELS.astype(np.float32)),
        array(PIXELS.astype(np.int64)),
        array(PIXELS.transpose(0, 3, 1, 2)),
        array(PIXELS[0]),
        array(PIXELS[:0]),
        array(PIXELS[:, :0]),
        array(np.array([None, {}], dtype=object)),
    ],
)
def test_what_holds_no_images_is_refused_with_its_name_in_one_line(tmp_path: Path, fault: Any) -> None:
    path = tmp_path / "calibration"
    fault(path)
    with pytest.raises(FileProblem) as caught:
        choose(path, 4)
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(("faults", "says"), [([np.nan, -np.inf], " with 2 values that are NaN or infinite"), ([], "")])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_refused_and_it_is_said_if_they_hold_nan(
    tmp_path: Path, dtype: Any, faults: list[float], says: str
) -> None:
    # More than are read at a time, so that the last ones are in another part than the first.
    images = np.zeros((1, 700, 701, 3), dtype)
    images.flat[images.size - len(faults) :] = faults
    array(images)(tmp_path / "x.npz")
    with pytest.raises(FileProblem) as caught:
        choose(tmp_path / "x.npz", 1)
    assert f"images are {np.dtype(dtype)} (1, 700, 701, 3){says}, not uint8" in caught.value.message


@pytest.mark.parametrize("content", [b"", b"a text, and not a picture", b"\x89PNG\r\n\x1a\n and then nothing"])
def test_a_file_that_is_only_called_a_picture_is_named(folder: Path, spec: ModelSpec, content: bytes) -> None:
    (folder / "2.png").write_bytes(content)
    with pytest.raises(FileProblem, match=r"2\.png is not a picture"):
        list(choose(folder, 4).feeds(spec))


def test_a_picture_that_ends_early_or_is_gone_by_now_is_named(folder: Path, spec: ModelSpec) -> None:
    chosen = choose(folder, 4)
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileProblem, match=r"1\.png is not a picture"):
        list(chosen.feeds(spec))
    shutil.rmtree(folder)
    with pytest.raises(FileProblem, match="pictures"):
        list(chosen.feeds(spec))


def test_a_picture_too_large_to_be_one_is_named(folder: Path, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(FileProblem, match=r"0\.png is not a picture"):
        list(choose(folder, 4).feeds(spec))
