import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from evit_edge.converters import convert as convert_module
from evit_edge.converters import golden
from evit_edge.converters.artifact import MANIFEST, Artifact, digests_of, read, write_manifest
from evit_edge.converters.conversion import Conversion, plan
from evit_edge.converters.convert import convert
from evit_edge.converters.parity import check
from evit_edge.device_bench.session import execute
from evit_edge.models.errors import (
    BadArtifact,
    ConversionFailed,
    FileProblem,
    ParityFailed,
    PrecisionNotMet,
    UnknownName,
    Unsupported,
)
from evit_edge.models.spec import ModelRequest, ModelSpec, find

Array = NDArray[Any]
Feeds = Mapping[str, Array]


@pytest.fixture
def spec() -> ModelSpec:
    return find(ModelRequest(name="efficientvit_m0", weights="demo"))


@pytest.fixture
def conversion(spec: ModelSpec) -> Conversion:
    return plan(spec, "onnx", images=16)


def make(conversion: Conversion, out: Path, **changes: Any) -> Artifact:
    return convert(conversion, out, **{"execute": execute, "engine": "onnxruntime", **changes})


def never(folder: Path, feeds: Feeds, *, runtime: str | None = None) -> Sequence[Array]:
    raise AssertionError("the cache should have answered")


def leftovers(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir())


def test_the_artifact_is_complete_proven_and_says_what_it_is(demo: Artifact) -> None:
    manifest = read(demo.folder).manifest
    assert manifest.parity is not None
    assert manifest.parity.passed
    assert {row.inputs for row in manifest.parity.rows} == {"images", "noise", "zeros", "large"}
    assert (manifest.target, manifest.precision, manifest.precision_found) == ("onnx", "fp32", "fp32")
    assert manifest.model.labels == tuple("0123456789")
    assert set(manifest.files) == {"model.onnx", "golden.npz"}
    assert {"torch", "onnx", "onnxruntime", "evit-edge"} <= set(manifest.versions)
    assert leftovers(demo.folder.parent) == [demo.folder.name]


def test_the_same_request_is_answered_without_a_second_conversion(
    demo: Artifact, conversion: Conversion, tmp_path: Path
) -> None:
    there = make(conversion, demo.folder.parent, execute=never)
    elsewhere = make(conversion, tmp_path, execute=never)
    assert there.manifest == elsewhere.manifest == demo.manifest
    assert leftovers(tmp_path) == [demo.folder.name]


@pytest.mark.parametrize(
    "change",
    [{"precision": "fp16"}, {"batch": 2}, {"batch": None}, {"images": 17}, {"seed": 1}, {"options": {"opset": 19}}],
)
def test_another_argument_is_another_key(spec: ModelSpec, conversion: Conversion, change: dict[str, Any]) -> None:
    assert plan(spec, "onnx", **{"images": 16, **change}).key != conversion.key


def test_other_weights_are_another_key(conversion: Conversion) -> None:
    other = find(ModelRequest(name="efficientvit_m0", weights="random", num_classes=10))
    assert plan(other, "onnx", images=16).key != conversion.key


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"target": "onx"}, UnknownName, "did you mean onnx"),
        ({"target": "onnx", "precision": "int4"}, Unsupported, "choose fp32, fp16"),
        ({"target": "onnx", "batch": 0}, Unsupported, "batch of 0"),
        ({"target": "onnx", "images": 0}, Unsupported, "0 images"),
        ({"target": "onnx", "seed": -1}, Unsupported, "seed of -1"),
        ({"target": "onnx", "options": {"opset": 9}}, Unsupported, "choose 18 to 23"),
        ({"target": "onnx", "options": {"dialect": "x"}}, Unsupported, "no option dialect"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    spec: ModelSpec, arguments: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        plan(spec, **arguments)


@pytest.mark.parametrize(
    ("fake", "error", "match"),
    [
        ("killed", ConversionFailed, "SIGKILL.*segmentation fault imminent"),
        ("exits", ConversionFailed, "status 0"),
        ("wrong_precision", PrecisionNotMet, "asked for fp32, the file holds"),
    ],
)
def test_a_converter_that_goes_wrong_leaves_nothing_and_harms_nothing(
    demo: Artifact,
    spec: ModelSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fake: str,
    error: type[Exception],
    match: str,
) -> None:
    earlier = tmp_path / demo.folder.name
    shutil.copytree(demo.folder, earlier)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "crashing"))
    monkeypatch.setenv("WORKER_FAKE", fake)
    monkeypatch.setattr(convert_module, "WORKER", "worker_fakes")
    with pytest.raises(error, match=match):
        make(plan(spec, "onnx", images=1), tmp_path)
    assert leftovers(tmp_path) == [earlier.name]
    assert read(earlier).manifest == demo.manifest


def test_a_converter_that_takes_too_long_is_stopped(spec: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(ConversionFailed, match=r"took longer than 0\.5 s"):
        make(plan(spec, "onnx", images=1, seed=5), tmp_path, timeout_s=0.5)
    assert leftovers(tmp_path) == []


def swapped(folder: Path, feeds: Feeds, *, runtime: str | None = None) -> Sequence[Array]:
    return execute(folder, {name: feed[:, ::-1] for name, feed in feeds.items()})


def unnormalised(folder: Path, feeds: Feeds, *, runtime: str | None = None) -> Sequence[Array]:
    return execute(folder, {name: feed * 0.226 + 0.45 for name, feed in feeds.items()})


def one_image_wrong(folder: Path, feeds: Feeds, *, runtime: str | None = None) -> Sequence[Array]:
    outputs = execute(folder, feeds)
    outputs[0][-1] = np.roll(outputs[0][-1], 1)
    return outputs


def not_a_number(folder: Path, feeds: Feeds, *, runtime: str | None = None) -> Sequence[Array]:
    outputs = execute(folder, feeds)
    outputs[0][0, 0] = np.nan
    return outputs


@pytest.mark.parametrize("fault", [swapped, unnormalised, one_image_wrong, not_a_number])
def test_the_gate_catches_a_planted_fault(demo: Artifact, fault: Any) -> None:
    assert check(demo, execute=execute, engine="onnxruntime").passed
    assert not check(demo, execute=fault, engine="onnxruntime").passed


def rolled_weight(graph: onnx.GraphProto) -> None:
    tensor = next(tensor for tensor in graph.initializer if len(tensor.dims) == 4 and tensor.dims[1] > 1)
    tensor.CopyFrom(numpy_helper.from_array(np.roll(numpy_helper.to_array(tensor), 1, axis=1), tensor.name))


def shifted_pad(graph: onnx.GraphProto) -> None:
    node = next(node for node in graph.node if node.op_type == "Conv" and "pads" in {a.name for a in node.attribute})
    pads = next(attribute for attribute in node.attribute if attribute.name == "pads")
    pads.ints[:] = [pads.ints[0] + 1, pads.ints[1], pads.ints[2] - 1, pads.ints[3]]


@pytest.mark.parametrize("fault", [rolled_weight, shifted_pad])
def test_the_gate_catches_a_fault_in_the_file(demo: Artifact, tmp_path: Path, fault: Any) -> None:
    folder = tmp_path / "faulty"
    shutil.copytree(demo.folder, folder)
    model = onnx.load(folder / "model.onnx")
    fault(model.graph)
    onnx.save(model, folder / "model.onnx")
    with pytest.raises(BadArtifact, match="was changed"):
        read(folder)
    write_manifest(folder, demo.manifest.model_copy(update={"files": digests_of(folder)}))
    assert not check(read(folder), execute=execute, engine="onnxruntime").passed


def test_an_artifact_that_fails_parity_is_kept_aside_under_another_name(spec: ModelSpec, tmp_path: Path) -> None:
    conversion = plan(spec, "onnx", images=2, seed=7)
    with pytest.raises(ParityFailed, match=r"relative L2 .* \(needs ≤ 0.001\)") as caught:
        make(conversion, tmp_path, execute=swapped)
    assert leftovers(tmp_path) == [f"{conversion.folder_name}.failed"]
    kept = read(tmp_path / f"{conversion.folder_name}.failed")
    assert kept.manifest.parity is not None
    assert not kept.manifest.parity.passed
    assert str(kept.folder) in caught.value.hint


def test_a_folder_that_is_no_artifact_is_never_replaced(conversion: Conversion, tmp_path: Path) -> None:
    precious = tmp_path / conversion.folder_name / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("five years of work")
    with pytest.raises(FileProblem, match="is not an artifact"):
        make(conversion, tmp_path)
    assert precious.read_text() == "five years of work"


def test_a_changed_or_missing_file_is_noticed(demo: Artifact, tmp_path: Path) -> None:
    for name, change in {"golden.npz": b"", "model.onnx": None}.items():
        folder = tmp_path / name
        shutil.copytree(demo.folder, folder)
        if change is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(change)
        with pytest.raises(BadArtifact, match=name):
            read(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 99}', "\x00"])
def test_a_damaged_manifest_is_one_line(demo: Artifact, tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(BadArtifact) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def test_golden_values_come_back_as_they_went(demo: Artifact) -> None:
    feeds, outputs = golden.feeds(demo), golden.outputs(demo)
    assert feeds["images"]["image"].shape == (16, 3, 224, 224)
    assert feeds["images"]["image"].dtype == np.float32
    assert not feeds["zeros"]["image"].any()
    assert np.abs(feeds["large"]["image"]).max() > 3.9 * np.abs(feeds["noise"]["image"]).max()
    assert {group: output[0].shape[1] for group, output in outputs.items()} == dict.fromkeys(feeds, 10)


def test_a_damaged_golden_file_is_named(demo: Artifact, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(demo.folder, folder)
    (folder / "golden.npz").write_bytes(b"PK\x03\x04 not a zip")
    write_manifest(folder, demo.manifest.model_copy(update={"files": digests_of(folder)}))
    with pytest.raises(BadArtifact, match=r"golden\.npz"):
        check(read(folder), execute=execute, engine="onnxruntime")


def test_the_published_schema_is_the_one_in_use() -> None:
    from evit_edge.converters.artifact import Manifest

    published = Path(__file__).parents[2] / "docs" / "artifact.schema.json"
    assert json.loads(published.read_text()) == Manifest.model_json_schema(by_alias=True)
