"""What all tests share: a cache of their own, one converted demo model, and the command line as a user runs it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# Several threads of one test wait for each other on a machine that runs something else; children inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from evit_edge.converters.artifact import Artifact, read
from evit_edge.converters.conversion import plan
from evit_edge.converters.convert import convert
from evit_edge.device_bench.session import default_runtime, execute
from evit_edge.models.spec import ModelRequest, find

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Nothing is read from, or left in, the cache of whoever runs the tests."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("EVIT_EDGE_CACHE")
    os.environ["EVIT_EDGE_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["EVIT_EDGE_CACHE"]
    else:
        os.environ["EVIT_EDGE_CACHE"] = before


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Artifact:
    """EfficientViT-M0 on digits as fp32 ONNX, through the whole way."""
    conversion = plan(find(ModelRequest(name="efficientvit_m0", weights="demo")), "onnx", images=16)
    return convert(conversion, tmp_path_factory.mktemp("demo"), execute=execute, engine=default_runtime("onnx"))


@pytest.fixture(scope="session")
def demo_tflite(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Artifact:
    """EfficientViT-M0 on digits as fp32 TFLite, through the whole way."""
    conversion = plan(find(ModelRequest(name="efficientvit_m0", weights="demo")), "tflite", images=16)
    return convert(conversion, tmp_path_factory.mktemp("tflite"), execute=execute, engine=default_runtime("tflite"))


@pytest.fixture(scope="session")
def demo_int8(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Artifact:
    """EfficientViT-M0 on digits as int8 TFLite, through the whole way."""
    spec = find(ModelRequest(name="efficientvit_m0", weights="demo"))
    conversion = plan(spec, "tflite", precision="int8", images=16, calibration_images=32)
    return convert(conversion, tmp_path_factory.mktemp("int8"), execute=execute, engine=default_runtime("tflite"))


@pytest.fixture(scope="session")
def evit_edge() -> Run:
    """Runs the command line in a process of its own, as a user does."""

    def run(*arguments: str | Path, timeout: float = 240, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "evit_edge", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)  # type: ignore[call-overload,no-any-return]

    return run


@pytest.fixture(scope="session")
def converted_coreml(
    evit_edge: Run, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Artifact, "subprocess.CompletedProcess[str]"]:
    """EfficientViT-M0 on digits as fp16 Core ML, through the whole way by the command line, and what that said."""
    out = tmp_path_factory.mktemp("coreml")
    options = ["--weights", "demo", "--target", "coreml", "--parity-images", "4", "--out", out]
    done = evit_edge("convert", "efficientvit_m0", *options)
    assert done.returncode == 0, done.stderr
    return read(out / "efficientvit_m0-demo-224px-coreml-fp16"), done


@pytest.fixture(scope="session")
def demo_coreml(converted_coreml: tuple[Artifact, object]) -> Artifact:
    return converted_coreml[0]


@pytest.fixture(scope="session")
def demo_classifier(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Artifact:
    """The same from pictures to labels."""
    spec = find(ModelRequest(name="efficientvit_m0", weights="demo"))
    conversion = plan(spec, "coreml", images=4, options={"input": "image", "output": "classifier"})
    folder = tmp_path_factory.mktemp("classifier")
    return convert(conversion, folder, execute=execute, engine=default_runtime("coreml"))
