"""A run file is read as it says, and every fault in it has its line and column."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_edge.device_bench.runfile import position, read
from evit_edge.models.errors import DeviceFailed, FileProblem, UnknownName

EXAMPLES = Path(__file__).parents[2] / "examples"
WHOLE = """\
# what we ship
effort = "quick"
seed = 7
devices = ["local"]
runtimes = ["onnxruntime", "litert"]
threads = [1, 2]
  batches = [
    1,
    16,
  ]
energy = true
sustained_s = 60.0

[[model]]
name = "efficientvit_m0"
weights = "demo"
targets = ["onnx", "tflite"]
precisions = ["fp32", "int8"]

[[model]]
name = "efficientvit_m1"
targets = ["coreml"]

[model.options]
ios = "iOS17"

[[artifact]]
path = "made/model"
"""


def file(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text)
    return path


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    found = read(file(tmp_path, WHOLE))
    says = found.says
    assert (says.effort, says.seed, says.threads, says.batches) == ("quick", 7, [1, 2], [1, 16])
    assert (says.energy, says.sustained_s) == (True, 60.0)
    assert [table.name for table in says.model] == ["efficientvit_m0", "efficientvit_m1"]
    assert says.model[0].precisions == ["fp32", "int8"]
    assert says.model[1].options == {"ios": "iOS17"}
    assert found.beside(says.artifact[0].path) == tmp_path / "made" / "model"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.name)
def test_the_examples_can_be_read(path: Path) -> None:
    assert read(path).says.model


def test_what_is_not_said_has_its_usual_value(tmp_path: Path) -> None:
    says = read(file(tmp_path, '[[artifact]]\npath = "x"\n')).says
    assert (says.effort, says.seed, says.devices, says.runtimes) == ("default", 0, ["local"], None)
    assert (says.threads, says.batches, says.energy, says.sustained_s) == ([1], [1], False, None)


@pytest.mark.parametrize(
    ("old", "new", "where", "says"),
    [
        ("seed = 7", "sead = 7", "line 3, column 1", "sead: Extra inputs"),
        ("seed = 7", 'seed = "7"', "line 3, column 1", "seed: Input should be a valid integer"),
        ("seed = 7", "seed = -7", "line 3, column 1", "greater than or equal to 0"),
        ('effort = "quick"', 'effort = "quik"', "line 2, column 1", "'quick', 'default' or 'rigorous'"),
        ("threads = [1, 2]", "threads = [1, 0]", "line 6, column 1", "threads.1"),
        ("threads = [1, 2]", "threads = 1", "line 6, column 1", "valid list"),
        ("    16,", '    "16",', "line 7, column 3", "batches.1"),
        ("energy = true", "energy = 1", "line 11, column 1", "valid boolean"),
        ("sustained_s = 60.0", "sustained_s = nan", "line 12, column 1", "greater than 0"),
        ('targets = ["onnx", "tflite"]', "targets = []", "line 17, column 1", "at least 1"),
        ('precisions = ["fp32", "int8"]', 'precisions = ["fp32", "in8"]', "line 18, column 1", "model.0.precisions.1"),
        ('name = "efficientvit_m1"', 'nmae = "efficientvit_m1"', "line 20, column 1", "model.1.name: Field required"),
        ('targets = ["coreml"]', 'targets = ["coreml"]\ncolour = "red"', "line 23, column 1", "model.1.colour"),
        ("[[artifact]]", "[artifact]", "line 27, column 1", "valid list"),
        ('path = "made/model"', 'path = "made/model"\nextra = 1', "line 29, column 1", "artifact.0.extra"),
        ("seed = 7", "seed = ", "line 3, column 8", "Invalid value"),
        ("seed = 7", "seed = 7\nseed = 8", "line 4", "Cannot overwrite"),
    ],
)
def test_a_fault_is_named_with_its_line_and_column(tmp_path: Path, old: str, new: str, where: str, says: str) -> None:
    assert WHOLE.count(old) == 1
    path = file(tmp_path, WHOLE.replace(old, new))
    with pytest.raises(FileProblem) as caught:
        read(path)
    assert str(path) in caught.value.message
    assert where in caught.value.message
    assert says in caught.value.message


def test_a_file_that_asks_for_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match=r"line 1, column 1: nothing to measure"):
        read(file(tmp_path, "seed = 1\n"))
    with pytest.raises(FileProblem, match="nothing to measure"):
        read(file(tmp_path, ""))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x80abc"])
def test_what_is_not_text_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(FileProblem, match="UTF-8"):
        read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="No such file"):
        read(tmp_path / "run.toml")
    with pytest.raises(FileProblem, match="directory"):
        read(tmp_path)


def test_an_error_inside_keeps_its_kind_and_gets_its_place(tmp_path: Path) -> None:
    found = read(file(tmp_path, WHOLE))
    with (
        pytest.raises(UnknownName, match=r"line 21, column 1: no such thing") as caught,
        found.at("model", 1, "name"),
    ):
        raise UnknownName("no such thing", "try another")
    assert caught.value.hint == "try another"
    with pytest.raises(DeviceFailed, match=r"line 4, column 1: gone"), found.at("devices", 0):
        raise DeviceFailed("gone")


def test_what_has_no_key_is_placed_at_the_table_around_it() -> None:
    assert position(WHOLE, ("model", 0)) == (14, 1)
    assert position(WHOLE, ("model", 1, "options", "ios")) == (25, 1)
    assert position(WHOLE, ("model", 1, "batch")) == (20, 1)
    assert position(WHOLE, ("nothing",)) == (1, 1)


@given(st.text(), st.lists(st.text(max_size=3) | st.integers(0, 3), max_size=4))
def test_any_text_has_a_place_for_anything(text: str, location: list[str | int]) -> None:
    line, column = position(text, location)
    assert 1 <= line <= max(1, len(text.splitlines()))
    assert column >= 1
