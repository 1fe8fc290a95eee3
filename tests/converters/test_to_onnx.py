import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from evit_edge.converters.artifact import Artifact
from evit_edge.converters.conversion import CONVERTERS, Conversion, plan
from evit_edge.converters.convert import convert
from evit_edge.converters.onnx import host as hosts
from evit_edge.converters.onnx.host import measured_host
from evit_edge.device_bench.session import execute
from evit_edge.models.errors import Unsupported
from evit_edge.models.spec import ModelRequest, find


def conversion(**changes: object) -> Conversion:
    return plan(find(ModelRequest(name="efficientvit_m0", weights="demo")), "onnx", images=4, **changes)  # type: ignore[arg-type]


def test_the_file_stands_alone_and_names_what_goes_in_and_out(demo: Artifact) -> None:
    model = onnx.load(demo.payload, load_external_data=False)
    assert [tensor.name for tensor in model.graph.input] == ["image"]
    assert [tensor.name for tensor in model.graph.output] == ["logits"]
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert [opset.version for opset in model.opset_import if not opset.domain] == [18]


def test_the_file_carries_labels_and_preprocessing(demo: Artifact) -> None:
    metadata = {entry.key: entry.value for entry in onnx.load(demo.payload).metadata_props}
    assert json.loads(metadata["labels"]) == list("0123456789")
    assert json.loads(metadata["preprocess"])["size"] == 224
    assert metadata["weights_sha256"] == demo.manifest.model.weights_sha256


def test_nothing_in_the_file_tells_whose_machine_wrote_it(demo: Artifact) -> None:
    assert str(Path.home()).encode() not in demo.payload.read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in demo.payload.read_bytes()


def test_fp16_holds_half_the_bytes_and_takes_float32(demo: Artifact, tmp_path: Path) -> None:
    half = convert(conversion(precision="fp16"), tmp_path, execute=execute, engine="onnxruntime")
    assert half.manifest.precision_found == "fp16"
    assert half.size_bytes < 0.6 * demo.size_bytes
    session = onnxruntime.InferenceSession(half.payload, providers=["CPUExecutionProvider"])
    assert [tensor.type for tensor in (*session.get_inputs(), *session.get_outputs())] == ["tensor(float)"] * 2


def test_int8_is_int8_inside_and_float32_outside(demo: Artifact, tmp_path: Path) -> None:
    small = convert(
        conversion(precision="int8", calibration_images=16), tmp_path, execute=execute, engine="onnxruntime"
    )
    assert small.manifest.precision_found == "int8"
    assert small.size_bytes < 0.32 * demo.size_bytes
    assert f"integers that suit {measured_host()}, which this machine was measured to be" in small.manifest.notes
    assert small.manifest.options["host"] == measured_host()
    session = onnxruntime.InferenceSession(small.payload, providers=["CPUExecutionProvider"])
    ends = [(tensor.name, tensor.type) for tensor in (*session.get_inputs(), *session.get_outputs())]
    assert ends == [("image", "tensor(float)"), ("logits", "tensor(float)")]
    metadata = {entry.key: entry.value for entry in onnx.load(small.payload).metadata_props}
    assert json.loads(metadata["labels"]) == list("0123456789")
    assert json.loads(metadata["preprocess"])["size"] == 224
    assert str(Path.home()).encode() not in small.payload.read_bytes()


def test_w8_is_a_quarter_of_the_bytes_and_float_arithmetic(demo: Artifact, tmp_path: Path) -> None:
    small = convert(conversion(precision="w8"), tmp_path, execute=execute, engine="onnxruntime")
    assert small.folder.name == demo.folder.name.replace("fp32", "w8")
    assert small.manifest.precision_found == "w8"
    assert small.manifest.notes == ()
    assert small.manifest.options["host"] == "auto"
    assert small.size_bytes < 0.3 * demo.size_bytes
    assert small.manifest.parity is not None
    assert all(row.cosine >= 0.999 for row in small.manifest.parity.rows)
    assert not [node for node in onnx.load(small.payload).graph.node if node.op_type == "QuantizeLinear"]


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "opset"), [(None, 18), (3, 18), (1, 23)])
def test_w8_takes_any_batch_and_opset(tmp_path: Path, batch: int | None, opset: int) -> None:
    asked = conversion(precision="w8", batch=batch, options={"opset": opset})
    artifact = convert(asked, tmp_path, execute=execute, engine="onnxruntime")
    assert artifact.manifest.precision_found == "w8"
    assert artifact.manifest.inputs[0].shape == (batch, 3, 224, 224)


def test_int8_for_this_cpu_is_not_taken_for_int8_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for name in hosts.HOSTS:
        monkeypatch.setattr(hosts, "measured_host", lambda name=name: name)
        found[name] = conversion(precision="int8")
        assert found[name].options["host"] == found[name].arguments["host"] == name
        assert found[name].folder_name == "efficientvit_m0-demo-224px-onnx-int8"
    assert len({each.key for each in found.values()}) == len(hosts.HOSTS)
    asked = conversion(precision="int8", options={"host": "arm64"})
    assert asked.key == found["arm64"].key
    assert asked.folder_name == "efficientvit_m0-demo-224px-onnx-int8-host-arm64"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "w8"])
def test_nothing_is_measured_where_there_are_no_integers(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    def never() -> str:
        raise AssertionError("nobody asked for integers")

    monkeypatch.setattr(hosts, "measured_host", never)
    assert conversion(precision=precision).options["host"] == "auto"


def test_int8_needs_an_opset_that_onnx_runtime_has_kernels_for() -> None:
    with pytest.raises(Unsupported, match="opset 23"):
        conversion(precision="int8", options={"opset": 23})


@pytest.mark.slow
@pytest.mark.parametrize("batch", [None, 3])
def test_int8_takes_any_batch(tmp_path: Path, batch: int | None) -> None:
    asked = conversion(precision="int8", batch=batch, calibration_images=16)
    artifact = convert(asked, tmp_path, execute=execute, engine="onnxruntime")
    assert artifact.manifest.precision_found == "int8"
    assert artifact.manifest.inputs[0].shape == (batch, 3, 224, 224)


@pytest.mark.parametrize(
    ("precision", "host", "message"),
    [("int8", "z80", "--host z80 is not known"), ("fp32", "arm64", "--host arm64 needs integers inside")],
)
def test_a_host_must_be_known_and_mean_something(precision: str, host: str, message: str) -> None:
    with pytest.raises(Unsupported, match=message):
        conversion(precision=precision, options={"host": host})


@pytest.mark.parametrize(("precision", "batch"), [("fp32", None), pytest.param("fp16", None, marks=pytest.mark.slow)])
def test_a_dynamic_batch_takes_any_number_of_images(tmp_path: Path, precision: str, batch: int | None) -> None:
    artifact = convert(conversion(precision=precision, batch=batch), tmp_path, execute=execute, engine="onnxruntime")
    assert artifact.manifest.inputs[0].shape == (None, 3, 224, 224)
    session = onnxruntime.InferenceSession(artifact.payload, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).normal(size=(5, 3, 224, 224)).astype(np.float32)
    together = session.run(None, {"image": images})[0]
    alone = np.concatenate([session.run(None, {"image": images[[index]]})[0] for index in range(5)])
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-3 * np.abs(alone).max())


@pytest.mark.slow
@pytest.mark.parametrize("opset", range(19, 24))
def test_every_opset_that_is_offered_can_be_written(tmp_path: Path, opset: int) -> None:
    artifact = convert(conversion(options={"opset": opset}), tmp_path, execute=execute, engine="onnxruntime")
    model = onnx.load(artifact.payload)
    assert [entry.version for entry in model.opset_import if not entry.domain] == [opset]


@pytest.mark.slow
@pytest.mark.parametrize("index", range(6))
def test_every_variant_agrees_with_the_original_on_256_real_images(tmp_path: Path, index: int) -> None:
    spec = find(ModelRequest(name=f"efficientvit_m{index}", weights="demo" if index == 0 else "random"))
    artifact = convert(plan(spec, "onnx", images=256), tmp_path, execute=execute, engine="onnxruntime")
    assert artifact.manifest.parity is not None
    images = artifact.manifest.parity.rows[0]
    assert (images.inputs, images.count) == ("images", 256)
    assert images.cosine >= 0.999999
    assert images.top1 == 1


def test_the_precision_is_read_from_the_file(tmp_path: Path) -> None:
    types = {"float": np.float32, "half": np.float16}
    weights = [onnx.numpy_helper.from_array(np.ones((2, 2), dtype), f"{name}_w") for name, dtype in types.items()]
    elements = {"float": onnx.TensorProto.FLOAT, "half": onnx.TensorProto.FLOAT16}
    values = [
        onnx.helper.make_tensor_value_info(f"{name}{end}", element, [1, 2])
        for end in ("", "_out")
        for name, element in elements.items()
    ]
    nodes = [onnx.helper.make_node("MatMul", [name, f"{name}_w"], [f"{name}_out"]) for name in types]
    graph = onnx.helper.make_graph(nodes, "mixture", values[:2], values[2:], weights)
    onnx.save(onnx.helper.make_model(graph), tmp_path / "mixture.onnx")
    shares = "50.0% float32 + 50.0% float16"
    found = CONVERTERS.load("onnx").inspect(tmp_path / "mixture.onnx").precision
    assert found == f"weights {shares}, arithmetic {shares}"
