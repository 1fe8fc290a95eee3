"""The target tflite through the whole way: what the file holds, what it says of itself, and what the manifest says."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

from evit_edge.converters import convert as convert_module
from evit_edge.converters import golden, parity
from evit_edge.converters.artifact import Artifact
from evit_edge.converters.conversion import CONVERTERS, Conversion, plan
from evit_edge.converters.convert import convert
from evit_edge.converters.tflite import metadata
from evit_edge.device_bench.session import execute
from evit_edge.models.errors import PrecisionNotMet
from evit_edge.models.sample_images import sample_digits
from evit_edge.models.spec import ModelRequest, find

from .in_process import execute_here, never


def asked(precision: str = "fp32", **changes: Any) -> Conversion:
    spec = find(ModelRequest(name="efficientvit_m0", weights="demo"))
    count = {"calibration_images": 8} if precision == "int8" else {}
    return plan(spec, "tflite", precision=precision, **{"images": 4, **count, **changes})


def make(conversion: Conversion, out: Path) -> Artifact:
    return convert(conversion, out, execute=execute_here, engine="litert")


def row(artifact: Artifact, inputs: str = "images") -> Any:
    assert artifact.manifest.parity is not None
    return next(row for row in artifact.manifest.parity.rows if row.inputs == inputs)


def test_the_float_artifact_is_proven_and_says_what_it_is(demo_tflite: Artifact) -> None:
    manifest = demo_tflite.manifest
    (image,), (logits,) = manifest.inputs, manifest.outputs
    assert (manifest.target, manifest.precision, manifest.precision_found) == ("tflite", "fp32", "fp32")
    assert (image.name, image.shape, image.layout, image.dtype) == ("image", (1, 224, 224, 3), "nhwc", "float32")
    assert (logits.name, logits.shape, logits.dtype) == ("logits", (1, 10), "float32")
    assert image.quantization is None
    assert manifest.notes == ()
    assert {name: manifest.options[name] for name in ("via", "io", "input", "calibration")} == {
        "via": "auto",
        "io": "nhwc",
        "input": "float",
        "calibration": None,
    }
    assert {"torch", "numpy", "ai_edge_litert", "evit-edge"} <= set(manifest.versions)
    assert set(manifest.files) == {"model.tflite", "golden.npz"}
    assert row(demo_tflite).cosine >= 0.999999
    assert row(demo_tflite).top1 == 1


def test_the_int8_artifact_records_its_calibration_and_is_judged_where_it_was_calibrated(demo_int8: Artifact) -> None:
    manifest = demo_int8.manifest
    assert (manifest.precision, manifest.precision_found) == ("int8", "int8")
    calibration = manifest.options["calibration"]
    assert isinstance(calibration, dict)
    assert calibration["count"] == 32
    assert len(str(calibration["sha256"])) == 64
    assert manifest.inputs[0].dtype == "float32"
    assert [row(demo_int8, name).judged for name in ("images", "noise", "zeros", "large")] == [True, True, True, False]
    assert row(demo_int8).top1 >= 0.9


@pytest.mark.parametrize(
    ("precision", "share", "cosine"), [("fp16", 0.55, 0.99999), ("w8", 0.32, 0.999), ("int8", 0.34, 0.99)]
)
def test_a_smaller_precision_is_a_smaller_file_that_computes_nearly_the_same(
    demo_tflite: Artifact, demo_int8: Artifact, tmp_path: Path, precision: str, share: float, cosine: float
) -> None:
    artifact = demo_int8 if precision == "int8" else make(asked(precision), tmp_path)
    assert artifact.manifest.precision_found == precision
    assert artifact.size_bytes < share * demo_tflite.size_bytes
    assert row(artifact).cosine >= cosine
    about = [note.partition(":")[0] for note in artifact.manifest.notes]
    assert about == (["bias correction", "in float"] if precision == "int8" else [])


def test_the_signature_has_the_models_own_names(demo_tflite: Artifact, demo_int8: Artifact) -> None:
    for artifact in (demo_tflite, demo_int8):
        signatures = Interpreter(model_path=str(artifact.payload)).get_signature_list()
        assert signatures == {"serving_default": {"inputs": ["image"], "outputs": ["logits"]}}


def test_the_file_alone_says_what_the_manifest_says(demo_tflite: Artifact, demo_int8: Artifact) -> None:
    for artifact in (demo_tflite, demo_int8):
        card, manifest = metadata.read(artifact.payload), artifact.manifest
        assert card.extra == {"manifest_key": manifest.key}
        assert card.model.labels == tuple("0123456789")
        assert card.model == manifest.model
        assert (card.inputs, card.outputs, card.precision) == (manifest.inputs, manifest.outputs, manifest.precision)


def test_a_free_batch_with_channels_first_takes_any_number_of_images(tmp_path: Path, demo_tflite: Artifact) -> None:
    artifact = make(asked(batch=None, options={"io": "nchw"}), tmp_path)
    (image,) = artifact.manifest.inputs
    assert (image.shape, image.layout) == ((None, 3, 224, 224), "nchw")
    assert artifact.manifest.outputs[0].shape == (None, 10)
    assert artifact.folder.name == "efficientvit_m0-demo-224px-tflite-fp32-bdynamic-io-nchw"
    feed = golden.feeds(demo_tflite)["images"]
    (together,) = execute_here(artifact.folder, feed)
    (one_by_one,) = execute_here(demo_tflite.folder, feed)
    np.testing.assert_allclose(together, one_by_one, rtol=1e-3, atol=1e-4 * np.abs(one_by_one).max())
    (three,) = execute(artifact.folder, {"image": feed["image"][:3]}, runtime="tflite")
    np.testing.assert_allclose(three, together[:3], rtol=1e-3, atol=1e-4 * np.abs(together).max())


@pytest.mark.parametrize(("dtype", "lowest"), [("int8", -128), pytest.param("uint8", 0, marks=pytest.mark.slow)])
def test_integers_at_the_edges_stand_for_the_models_own_numbers(
    tmp_path: Path, demo_int8: Artifact, dtype: str, lowest: int
) -> None:
    artifact = make(asked("int8", batch=2, options={"input": dtype}), tmp_path)
    (image,), (logits,) = artifact.manifest.inputs, artifact.manifest.outputs
    assert artifact.folder.name == f"efficientvit_m0-demo-224px-tflite-int8-b2-input-{dtype}"
    assert (image.dtype, image.shape, logits.dtype) == (dtype, (2, 224, 224, 3), dtype)
    assert image.quantization is not None
    assert logits.quantization is not None
    # Black, the lowest value that an image has, is the lowest integer: the range is that of pictures.
    black = (lowest - image.quantization.zero_point) * image.quantization.scale
    assert black == pytest.approx(-0.485 / 0.229, rel=0.02)
    feed = {"image": golden.feeds(demo_int8)["images"]["image"][:5]}
    (expected,) = golden.outputs(demo_int8)["images"]
    (found,) = execute(artifact.folder, feed)
    assert found.dtype == np.float32
    judged = parity.compare([expected[:5]], [found], inputs="images", threshold=parity.THRESHOLDS["int8"])
    assert judged.cosine >= 0.99
    assert judged.top1 == 1


def test_the_same_conversion_twice_gives_the_same_bytes(
    demo_tflite: Artifact, demo_int8: Artifact, tmp_path: Path
) -> None:
    for artifact, conversion in (
        (demo_tflite, asked(images=16)),
        (demo_int8, asked("int8", images=16, calibration_images=32)),
    ):
        again = tmp_path / f"{conversion.precision}.tflite"
        CONVERTERS.load("tflite").convert(conversion.spec.build(), conversion, again)
        assert again.read_bytes() == artifact.payload.read_bytes()


def test_the_same_request_is_answered_from_the_cache(demo_int8: Artifact, tmp_path: Path) -> None:
    conversion = asked("int8", images=16, calibration_images=32)
    copied = convert(conversion, tmp_path, execute=never, engine="litert")
    assert copied.manifest == demo_int8.manifest
    assert [path.name for path in tmp_path.iterdir()] == [demo_int8.folder.name]


def test_other_images_to_calibrate_with_are_another_conversion(tmp_path: Path) -> None:
    for index, pixels in enumerate(sample_digits(8, asked().spec.preprocess)):
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    keys = {
        asked("int8").key,
        asked("int8", calibration_images=9).key,
        asked("int8", calibrate=tmp_path).key,
        asked("int8", calibrate=tmp_path, calibration_images=7).key,
    }
    assert len(keys) == 4
    elsewhere = shutil.copytree(tmp_path, tmp_path / "elsewhere")
    assert asked("int8", calibrate=elsewhere).key in keys


def test_a_folder_of_pictures_calibrates_and_its_place_is_told_to_nobody(tmp_path: Path) -> None:
    secret = tmp_path / "patients of doctor Who"
    secret.mkdir()
    for index, pixels in enumerate(sample_digits(8, asked().spec.preprocess, part="training")):
        Image.fromarray(pixels).save(secret / f"{index}.png")
    artifact = make(asked("int8", calibrate=secret), tmp_path / "out")
    assert row(artifact).cosine >= 0.98
    for file in artifact.folder.iterdir():
        assert b"doctor Who" not in file.read_bytes(), file


def test_nothing_in_the_file_tells_whose_machine_wrote_it(demo_tflite: Artifact, demo_int8: Artifact) -> None:
    for artifact in (demo_tflite, demo_int8):
        content = artifact.payload.read_bytes()
        for place in (Path.home(), Path(__file__).parents[2], artifact.folder.parent, Path(tempfile.gettempdir())):
            assert f"{place}/".encode() not in content


def test_a_file_of_another_precision_than_asked_for_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "crashing"))
    monkeypatch.setenv("WORKER_FAKE", "forgets_to_compress")
    monkeypatch.setattr(convert_module, "WORKER", "worker_fakes")
    with pytest.raises(PrecisionNotMet, match=r"asked for w8, the file holds fp32") as caught:
        make(asked("w8", images=1), tmp_path)
    assert caught.value.exit_code == 6
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("index", range(6))
def test_every_variant_agrees_with_the_original_at_every_precision(tmp_path: Path, index: int) -> None:
    spec = find(ModelRequest(name=f"efficientvit_m{index}", weights="demo" if index == 0 else "random"))
    for precision, cosine in {"fp32": 0.999999, "fp16": 0.9995, "w8": 0.99, "int8": 0.98}.items():
        artifact = make(plan(spec, "tflite", precision=precision, images=64), tmp_path)
        assert row(artifact).count == 64
        assert row(artifact).cosine >= cosine
        assert precision != "fp32" or row(artifact).top1 == 1
