"""The target coreml: what it refuses, what the packages hold, and what they say of themselves."""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evit_edge.converters.artifact import Normalisation, TensorRecord, digests_of
from evit_edge.converters.conversion import CONVERTERS, Converter
from evit_edge.converters.coreml import metadata, package
from evit_edge.converters.coreml.executor import Executor
from evit_edge.converters.coreml.program import load
from evit_edge.models.errors import Unsupported

from .coreml import tiny
from .coreml.tiny import LABELS, PREPROCESS, SIZE, planned, spec, written

CONVERTER: Converter = CONVERTERS.load("coreml")
NORMALISATION = Normalisation(mean=PREPROCESS.mean, std=PREPROCESS.std)


def description(path: Path) -> Any:
    return package.read(path).model.description


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"ios": "iOS14"}, "--ios iOS14 is not known (choose auto, iOS15, iOS16"),
        ({"input": "uint8"}, "--input uint8 is not known (choose tensor, image"),
        ({"output": "softmax"}, "--output softmax is not known (choose logits, classifier"),
        ({"precision": "int8", "ios": "iOS16"}, "iOS16 has no int8 (take --ios iOS17 or later"),
        *(
            ({"precision": precision, "ios": "iOS15"}, f"iOS15 has no {precision} (take --ios iOS16 or later")
            for precision in ("w8", "pal8", "pal6", "pal4")
        ),
        ({"input": "image", "batch": 4}, "one picture at a time"),
        ({"input": "image", "batch": None}, "one picture at a time"),
        ({"output": "classifier", "batch": 4}, "answers for one picture at a time (leave --batch out"),
        ({"output": "classifier", "batch": None}, "answers for one picture at a time"),
        ({"output": "classifier", "of": spec(labels=None)}, "tiny has no labels"),
        ({"precision": "w8a16"}, "coreml has no precision 'w8a16' (choose fp32, fp16"),
        ({"via": "direct"}, "has no option via"),
    ],
)
def test_a_choice_that_does_not_exist_or_cannot_be_met_is_refused_in_one_line(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(Unsupported) as caught:
        planned(**asked)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "sizes",
    [
        *("", "4", "0,1", "4,1", "1..", "a", "1..1", "1,1", "0..4", "8..1", "1,2..4", "1..2..4"),
        *("..4", "1,,4", "-1,4", "1;4", "1, 4"),
    ],
)
def test_sizes_of_a_batch_that_are_none_are_refused(sizes: str) -> None:
    with pytest.raises(Unsupported, match=re.escape(f"{sizes!r} are no sizes of a batch")):
        planned(batch=None, batches=sizes)


@pytest.mark.parametrize(
    ("precision", "ios", "version"),
    [
        ("fp32", "auto", 6),
        ("fp16", "auto", 6),
        ("w8", "auto", 7),
        ("int8", "auto", 8),
        ("pal8", "auto", 7),
        ("pal6", "auto", 7),
        ("pal4", "auto", 7),
        ("fp16", "iOS17", 8),
        ("pal4", "iOS18", 9),
        ("fp32", "iOS26", 10),
        ("int8", "iOS18", 9),
    ],
)
def test_the_package_runs_on_the_oldest_system_that_can_unless_asked_otherwise(
    tmp_path: Path, precision: str, ios: str, version: int
) -> None:
    conversion = planned(precision, ios=ios)
    path = written(conversion, tmp_path)
    program = load(path)
    assert program.specification_version == version
    assert CONVERTER.inspect(path).precision == precision
    feed = tiny.images(spec(), 1)
    found, wanted = Executor(program).run({"image": feed})["logits"].numpy(), tiny.answers(spec(), feed)
    bound = {"fp32": 1e-6, "fp16": 2e-3, "w8": 5e-3, "pal8": 1e-2, "int8": 2e-2, "pal6": 3e-2, "pal4": 0.1}
    assert np.linalg.norm(found - wanted) <= bound[precision] * np.linalg.norm(wanted)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(planned(), tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(planned("fp32", input="image", output="classifier"), tmp_path_factory.mktemp("classifier"))


def test_tensors_are_those_of_the_package_under_the_models_names(plain: Path, classifier: Path) -> None:
    image = TensorRecord(name="image", shape=(1, 3, SIZE, SIZE), dtype="float32")
    logits = TensorRecord(name="logits", shape=(1, len(LABELS)), dtype="float32")
    picture = image.model_copy(
        update={"shape": (1, SIZE, SIZE, 3), "dtype": "uint8", "layout": "nhwc", "normalisation": NORMALISATION}
    )
    assert CONVERTER.tensors_of(planned(), plain) == ((image,), (logits,))
    conversion = planned("fp32", input="image", output="classifier")
    probabilities = logits.model_copy(update={"softmax": True})
    assert CONVERTER.tensors_of(conversion, classifier) == ((picture,), (probabilities,))


def test_two_outputs_keep_their_names_and_their_order(tmp_path: Path) -> None:
    first = spec().outputs[0]
    both = (replace(first, name="twice", shape=(None, len(LABELS))), replace(first, name="alone", shape=(None, 2)))
    twins = spec(build=tiny.Twins, outputs=both)
    conversion = planned("fp32", of=twins, batch=None)
    path = written(conversion, tmp_path)
    _, outputs = CONVERTER.tensors_of(conversion, path)
    assert [(record.name, record.shape) for record in outputs] == [("twice", (None, 5)), ("alone", (None, 2))]
    found = Executor(load(path)).run({"image": tiny.images(twins, 3)})
    np.testing.assert_allclose(found["alone"], 2 * found["twice"][:, :2], rtol=1e-5)


def test_the_card_is_in_the_package(plain: Path, classifier: Path) -> None:
    for path, conversion in ((plain, planned()), (classifier, planned("fp32", input="image", output="classifier"))):
        card = CONVERTER.card_of(path)
        assert (card.inputs, card.outputs) == CONVERTER.tensors_of(conversion, path)
        assert (card.model.name, card.model.weights, card.model.labels) == ("tiny", "small", LABELS)
        assert card.precision == conversion.precision
        assert card.extra == {"manifest_key": conversion.key}


def test_the_fields_that_xcode_shows(plain: Path, classifier: Path) -> None:
    found = description(plain)
    assert (found.metadata.author, found.metadata.license) == ("Somebody", "MIT")
    assert found.metadata.versionString == "0123456789ab"
    assert found.metadata.shortDescription == f"tiny, weights small, {SIZE} px, fp16"
    assert found.input[0].shortDescription.startswith("RGB, normalised")
    assert "the model normalises it" in description(classifier).input[0].shortDescription
    own = found.metadata.userDefined
    assert "shorter side to 18 px (bicubic), centre crop of 16 px" in own["evit-edge.preprocess"]
    assert "mean (0.5, 0.4, 0.3), std (0.25, 0.3, 0.1)" in own["evit-edge.preprocess"]
    assert own["evit-edge.version"]
    assert own["evit-edge.float32"] == ""
    assert json.loads(own["evit-edge.card"])["model"]["name"] == "tiny"
    assert metadata.DATE not in own


def test_nothing_in_the_package_tells_whose_machine_wrote_it_or_when(plain: Path, classifier: Path) -> None:
    places = ["/home/somebody", "secret", tempfile.gettempdir(), str(Path.home()), str(Path(__file__).parents[2])]
    for path in (plain, classifier):
        for file in (file for file in path.rglob("*") if file.is_file()):
            content = file.read_bytes()
            # A home directory of `/root` alone would be found in any word.
            assert not [place for place in places if f"{place}/".encode() in content], file
            # Weights are any bytes.
            assert file.name == "weight.bin" or not re.search(rb"20\d\d-\d\d-\d\d", content), file


@pytest.mark.parametrize("precision", ["fp32", "fp16", "w8", "int8", "pal6"])
def test_the_same_conversion_twice_gives_the_same_bytes(tmp_path: Path, precision: str) -> None:
    one, other = (written(planned(precision), tmp_path / name) for name in ("one", "other"))
    assert digests_of(one) == digests_of(other)
    assert {file.stat().st_mode & 0o777 for file in one.rglob("*") if file.is_file()} == {0o644}


def test_a_picture_is_normalised_as_the_model_wants_it_and_classified(classifier: Path) -> None:
    pixels = spec().sample_pixels(3)
    program = load(classifier)
    executor = Executor(program, rounding=False)
    for index, wanted in enumerate(tiny.answers(spec(), PREPROCESS.normalise(pixels))):
        answer = executor.run({"image": pixels[index : index + 1]})
        shares = answer.pop(program.probabilities)
        assert list(shares) == list(LABELS)
        assert list(answer.values()) == [LABELS[int(wanted.argmax())]]
        assert sum(shares.values()) == pytest.approx(1, abs=1e-6)
        powers = np.exp(wanted.astype(np.float64) - wanted.max())
        np.testing.assert_allclose(list(shares.values()), powers / powers.sum(), rtol=1e-5)


def test_a_picture_gives_the_models_own_logits(tmp_path: Path) -> None:
    executor = Executor(load(written(planned("fp32", input="image"), tmp_path)), rounding=False)
    pixels = spec().sample_pixels(3)
    wanted = tiny.answers(spec(), PREPROCESS.normalise(pixels))
    found = np.concatenate([executor.run({"image": image[None]})["logits"].numpy() for image in pixels])
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()
    turned = executor.run({"image": pixels[:1, ..., ::-1]})["logits"].numpy()
    assert np.abs(turned - wanted[:1]).max() > 1e-2 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("batch", "sizes", "shape", "listed"),
    [
        (4, "1..64", (4, 3, SIZE, SIZE), []),
        (None, "1,4,8", (None, 3, SIZE, SIZE), [1, 4, 8]),
        (None, "1..16", (None, 3, SIZE, SIZE), [range(1, 16)]),
        (None, "2..3", (None, 3, SIZE, SIZE), [range(2, 3)]),
    ],
)
def test_a_batch_is_fixed_or_one_of_some_or_within_a_range(
    tmp_path: Path, batch: int | None, sizes: str, shape: tuple[int | None, ...], listed: list[Any]
) -> None:
    conversion = planned("fp32", batch=batch, batches=sizes)
    path = written(conversion, tmp_path)
    (image,), (logits,) = CONVERTER.tensors_of(conversion, path)
    assert (image.shape, logits.shape) == (shape, (batch, len(LABELS)))
    array = description(path).input[0].type.multiArrayType
    kinds = [one.shape[0] for one in array.enumeratedShapes.shapes]
    ranges = [range(size.lowerBound, size.upperBound) for size in array.shapeRange.sizeRanges[:1]]
    assert kinds + ranges == listed
    executor, feed = Executor(load(path)), tiny.images(spec(), 4)
    wanted = tiny.answers(spec(), feed)
    np.testing.assert_allclose(executor.run({"image": feed})["logits"], wanted, rtol=1e-4, atol=1e-5)
    if batch:
        with pytest.raises(Unsupported, match=r"takes \(4, 3, 16, 16\), not \(3, 3, 16, 16\)"):
            executor.run({"image": feed[:3]})


@pytest.mark.parametrize("gain", [6e4, 1e5], ids=["within", "beyond"])
@pytest.mark.parametrize("precision", ["fp16", "w8", "int8"])
def test_what_float16_cannot_hold_stays_in_float32_and_is_told(tmp_path: Path, gain: float, precision: str) -> None:
    # As a factor, 60,000 is a float16 and what it gives is none; 100,000 is none itself.
    large = spec(build=lambda: tiny.Network(gain))
    path = tmp_path / "model.mlpackage"
    *_, note = CONVERTER.convert(large.build(), planned(precision, of=large), path)
    named = description(path).metadata.userDefined["evit-edge.float32"].split()
    # What makes the large values, and what reads them.
    assert len(named) == 2
    assert note == f"in float32, since float16 ends at 65,504: {', '.join(named)}"
    program = load(path)
    kinds = [kind for op in program.operations if op.name in named for kind in op.outputs.values()]
    assert [kind and kind.dtype for kind in kinds] == ["float32"] * 2
    feed = tiny.images(large, 1)
    found, wanted = Executor(program).run({"image": feed})["logits"].numpy(), tiny.answers(large, feed)
    assert np.linalg.norm(found - wanted) <= (2e-2 if precision == "int8" else 5e-3) * np.linalg.norm(wanted)
