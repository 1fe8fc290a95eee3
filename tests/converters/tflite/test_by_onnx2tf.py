import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from evit_edge.converters import child, parity
from evit_edge.converters.artifact import ParityRow
from evit_edge.converters.conversion import Conversion
from evit_edge.converters.tflite import by_onnx2tf
from evit_edge.converters.tflite.flatbuffer import unpack
from evit_edge.converters.to_onnx import CONVERTER as ONNX
from evit_edge.models.errors import ConversionFailed
from evit_edge.models.spec import ModelRequest, ModelSpec, Preprocess, TensorSpec

SIZE, CLASSES = 16, 10
IMAGES = np.random.default_rng(0).standard_normal((12, 3, SIZE, SIZE)).astype(np.float32)


class Net(nn.Module):
    """Strided and depthwise convolutions, then attention where 16 tokens meet 16 channels: axes that look the same."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16)
        )
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.qkv, self.project, self.head = nn.Linear(16, 48), nn.Linear(16, 16), nn.Linear(16, CLASSES)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.stem(image)
        features = features + self.depthwise(features)
        tokens = features.flatten(2).transpose(1, 2)
        query, key, value = self.qkv(tokens).chunk(3, dim=-1)
        attention = (query @ key.transpose(-2, -1) * 0.25).softmax(dim=-1)
        tokens = tokens + self.project(attention @ value)
        logits: torch.Tensor = self.head(tokens.mean(dim=1))
        return logits


class Only(nn.Module):
    """A convolution, and one function after it."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.convolution, self.function = nn.Conv2d(3, 4, 3), function

    def forward(self, image: torch.Tensor) -> Any:
        return self.function(self.convolution(image))


def net() -> nn.Module:
    torch.manual_seed(0)
    module = Net().eval()
    for name, values in module.state_dict().items():
        if name.endswith("running_var"):
            values.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            values.normal_(0, 0.3)
        elif name in ("qkv.weight", "head.weight"):
            values.mul_(3)
    return module


def conversion(precision: Any = "fp32", *, batch: int | None = 1, **options: str) -> Conversion:
    spec = ModelSpec(
        request=ModelRequest(name="toy", weights="random", img_size=SIZE, num_classes=CLASSES),
        inputs=(TensorSpec(name="image", shape=(None, 3, SIZE, SIZE)),),
        outputs=(TensorSpec(name="logits", shape=(None, CLASSES)),),
        preprocess=Preprocess(size=SIZE, resize=SIZE),
        labels=None,
        licence="Apache-2.0",
        weights_sha256="0" * 64,
        build=net,
        sample_pixels=lambda n: np.zeros((n, SIZE, SIZE, 3), np.uint8),
        calibration_pixels=lambda n: np.zeros((n, SIZE, SIZE, 3), np.uint8),
    )
    given = {"via": "onnx2tf", "io": "nhwc", "input": "float", **options}
    return Conversion(spec=spec, target="tflite", precision=precision, batch=batch, options=given)


def feeds() -> Iterator[NDArray[np.float32]]:
    return (IMAGES[[index]] for index in range(6))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def convert(folder: Path, asked: Conversion, module: nn.Module | None = None, **limits: Any) -> Path:
    out = folder / "model.tflite"
    by_onnx2tf.convert(module or net(), asked, out, calibration=feeds, **limits)
    assert list(folder.iterdir()) == [out]
    return out


def expected() -> NDArray[np.float32]:
    with torch.inference_mode():
        answer: NDArray[np.float32] = net()(torch.from_numpy(IMAGES)).numpy()
    return answer


def quantized(values: NDArray[Any], details: dict[str, Any]) -> NDArray[Any]:
    scale, zero_point = details["quantization"]
    if scale:
        limits = np.iinfo(details["dtype"])
        values = np.clip(np.round(values / scale) + zero_point, limits.min, limits.max).astype(details["dtype"])
    return values


def answers(file: Path, *, batch: int = 1, channels_last: bool = True) -> NDArray[np.float32]:
    """What the file says to `IMAGES` in ai-edge-litert with XNNPACK, asked by the model's own names."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(file), num_threads=1).get_signature_runner("serving_default")
    image, logits = runner.get_input_details()["image"], runner.get_output_details()["logits"]
    assert (image["name"], logits["name"]) == ("image", "logits")
    images = quantized(IMAGES.transpose(0, 2, 3, 1) if channels_last else IMAGES, image)
    given = [runner(image=images[i : i + batch])["logits"].astype(np.float32) for i in range(0, len(images), batch)]
    scale, zero_point = logits["quantization"]
    answer: NDArray[np.float32] = (np.concatenate(given) - zero_point) * (scale or 1)
    return answer


def gate(actual: NDArray[np.float32]) -> ParityRow:
    return parity.compare([expected()], [actual], inputs="images", threshold=parity.THRESHOLDS["fp32"])


@pytest.mark.parametrize(
    ("precision", "least"),
    [
        pytest.param("fp16", 0.9999, marks=pytest.mark.slow),
        pytest.param("w8", 0.9995, marks=pytest.mark.slow),
        ("int8", 0.995),
        ("w8a16", 0.9995),
    ],
)
def test_every_precision_computes_what_the_model_computes(tmp_path: Path, precision: str, least: float) -> None:
    assert gate(answers(convert(tmp_path, conversion(precision)))).cosine >= least


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("io", ["nhwc", "nchw"])
@pytest.mark.parametrize("batch", [1, 4, None])
def test_layouts_and_batches_are_as_asked(tmp_path: Path, precision: str, io: str, batch: int | None) -> None:
    file = convert(tmp_path, conversion(precision, io=io, batch=batch))
    subgraph = unpack(file.read_bytes()).subgraphs[0]
    tensor = subgraph.tensors[subgraph.inputs[0]]
    sides = (SIZE, SIZE, 3) if io == "nhwc" else (3, SIZE, SIZE)
    assert tuple(tensor.shape) == (batch or 1, *sides)
    assert (tensor.shapeSignature is not None and tensor.shapeSignature[0] == -1) == (batch is None)
    # Not where XNNPACK gets the products of a free batch wrong.
    if (precision, batch) != ("int8", None):
        actual = answers(file, batch=batch or 1, channels_last=io == "nhwc")
        assert gate(actual).cosine >= (0.999_999 if precision == "fp32" else 0.995)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_int8_takes_and_gives_the_integers_that_were_asked_for(tmp_path: Path, dtype: str) -> None:
    from ai_edge_litert.interpreter import Interpreter

    file = convert(tmp_path, conversion("int8", input=dtype))
    interpreter = Interpreter(model_path=str(file))
    edges = [*interpreter.get_input_details(), *interpreter.get_output_details()]
    assert [edge["dtype"] for edge in edges] == [np.dtype(dtype)] * 2
    assert gate(answers(file)).cosine >= 0.99


AS_ITS_MANUAL_SAYS = """
import sys
import numpy as np
from onnx2tf import onnx2tf
onnx2tf.download_test_image_data = lambda: np.random.default_rng(0).random((20, 128, 128, 3), dtype=np.float32)
onnx2tf.convert(
    input_onnx_file_path=f"{sys.argv[1]}/model.onnx", output_folder_path=sys.argv[1], non_verbose=True,
    output_integer_quantized_tflite=True, output_signaturedefs=True,
    custom_input_op_name_np_data_path=[["image", f"{sys.argv[1]}/images.npy", 0.0, 1.0]],
)
"""


@pytest.mark.slow
def test_onnx2tf_calibrating_by_itself_writes_a_wrong_float_file_which_the_gate_refuses(
    tmp_path: Path, out: Path
) -> None:
    from ai_edge_litert.interpreter import Interpreter

    ONNX.convert(net(), by_onnx2tf._to_onnx(conversion()), tmp_path / "model.onnx")
    np.save(tmp_path / "images.npy", IMAGES.transpose(0, 2, 3, 1))
    code, tail = child.run([sys.executable, "-c", AS_ITS_MANUAL_SAYS, str(tmp_path)], timeout_s=300)
    assert code == 0, tail

    runner = Interpreter(model_path=str(tmp_path / "model_float32.tflite"), num_threads=1).get_signature_runner()
    (image,), (logits,) = runner.get_input_details(), runner.get_output_details()
    theirs = gate(np.concatenate([runner(**{image: x[None]})[logits] for x in IMAGES.transpose(0, 2, 3, 1)]))
    assert not theirs.passed
    assert theirs.cosine < 0.95
    assert gate(answers(convert(out, conversion()))).passed


WATCH = """
import sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        open({log!r}, "a").write(f"{{event}} {{arguments}}\\n")
        raise OSError("there is no network")
sys.addaudithook(refuse)
open({log!r}, "a").write("watching\\n")
"""


def test_no_process_of_a_conversion_asks_the_network(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, watch = tmp_path / "log", tmp_path / "watch"
    watch.mkdir()
    (watch / "sitecustomize.py").write_text(WATCH.format(log=str(log)))
    monkeypatch.setenv("PYTHONPATH", str(watch))
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    file = convert(out, conversion(batch=None))
    # The child itself, and the onnxsim that onnx2tf calls.
    assert log.read_text().splitlines() == ["watching"] * 4
    assert gate(answers(file, batch=5)).passed


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (torch.linalg.det, r"onnx2tf cannot convert the ONNX operator Det \(.+\): ValueError"),
        (lambda x: (x.int() & 3).float(), "TFLite cannot hold: it has no operator for BitwiseAnd"),
    ],
)
def test_an_operator_without_a_counterpart_is_named(tmp_path: Path, function: Any, message: str) -> None:
    with pytest.raises(ConversionFailed, match=message) as caught:
        convert(tmp_path, conversion(), Only(function).eval())
    assert "\n" not in caught.value.message
    assert list(tmp_path.iterdir()) == []


def fake_onnx2tf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str) -> None:
    package = tmp_path / "fakes" / "onnx2tf"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    body = f"import os, signal, sys, time\n\ndef convert(**options):\n    print('ERROR: not to my taste')\n    {does}\n"
    (package / "onnx2tf.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))


@pytest.mark.parametrize(
    ("does", "message"),
    [
        ("sys.exit(0)", "onnx2tf gave up: not to my taste"),
        ("return None", "onnx2tf ended without an error and without a model"),
        ("os.abort()", "onnx2tf was killed by SIGABRT"),
        ("os._exit(0)", "onnx2tf ended with status 0"),
        ("bytearray(2 * 2**30)", "onnx2tf needs more than 1 GiB of memory"),
        ("open('left', 'w'); time.sleep(300)", "onnx2tf took longer than 3 s .*1 GiB of memory"),
    ],
)
def test_however_onnx2tf_ends_it_is_one_line_and_nothing_is_left(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, does: str, message: str
) -> None:
    fake_onnx2tf(tmp_path, monkeypatch, does)
    with pytest.raises(ConversionFailed, match=message) as caught:
        convert(out, conversion(), timeout_s=3 if "sleep" in does else 60, memory_bytes=2**30)
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
    assert list(out.iterdir()) == []


def test_an_interruption_leaves_nothing(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_onnx2tf(tmp_path, monkeypatch, f"os.kill({os.getpid()}, signal.SIGINT); time.sleep(300)")
    with pytest.raises(KeyboardInterrupt):
        convert(out, conversion())
    assert list(out.iterdir()) == []


def test_a_child_that_answers_without_a_file_failed(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "call", lambda *arguments, **options: None)
    with pytest.raises(ConversionFailed, match="without a file"):
        convert(out, conversion())


def test_a_calibration_without_images_is_refused(out: Path) -> None:
    with pytest.raises(ConversionFailed, match="no images to calibrate with"):
        by_onnx2tf.convert(net(), conversion("int8"), out / "model.tflite", calibration=lambda: iter(()))
    assert list(out.iterdir()) == []
