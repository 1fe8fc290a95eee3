"""What the CPU does with products that 8 bits can only just hold, as found by trying."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from evit_edge.converters import parity
from evit_edge.converters.inspection import Layer
from evit_edge.converters.onnx import engine, host
from evit_edge.device_bench import doctor
from evit_edge.models.errors import PrecisionNotMet


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    host.measured_host.cache_clear()
    yield
    host.measured_host.cache_clear()


class Saturating:
    """A CPU that adds products in pairs of 16 bits, as VPMADDUBSW does."""

    def __init__(self, content: bytes) -> None:
        tensors = {tensor.name: tensor for tensor in onnx.load_from_string(content).graph.initializer}
        self.weights: NDArray[np.int64] = onnx.numpy_helper.to_array(tensors["w"]).astype(np.int64)

    def run(self, names: None, feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        return [in_pairs(feeds["x"], self.weights)]


def in_pairs(pixels: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
    products = pixels.astype(np.int64)[:, :, None] * weights.astype(np.int64)[None]
    pairs = (products[:, ::2] + products[:, 1::2]).clip(-(2**15), 2**15 - 1)
    return np.asarray(pairs.sum(1), np.float32)


def test_products_with_unsigned_weights_are_exact_on_every_cpu() -> None:
    assert host.is_exact(signed=False)


def test_a_cpu_that_saturates_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "session", Saturating)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert not host.is_exact(signed=True)
    assert host.measured_host() == "x86-avx2"
    (finding,) = (found for found in doctor.examine() if found.subject == "integer arithmetic")
    assert finding.state == "warning"
    assert finding.detail.startswith("saturates: ")
    assert "--host x86-avx2" in finding.advice


@pytest.mark.parametrize(("machine", "name"), [("x86_64", "x86-vnni"), ("AMD64", "x86-vnni"), ("aarch64", "arm64")])
def test_a_cpu_that_does_not_is_called_by_its_kind(monkeypatch: pytest.MonkeyPatch, machine: str, name: str) -> None:
    monkeypatch.setattr(host, "is_exact", lambda *, signed: True)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert host.measured_host() == name
    (finding,) = (found for found in doctor.examine() if found.subject == "integer arithmetic")
    assert (finding.state, finding.detail) == ("ok", f"exact in ONNX Runtime ({name})")


def test_this_cpu_is_one_of_the_known() -> None:
    assert host.measured_host() in host.HOSTS


@pytest.mark.parametrize(("largest", "passed"), [(127, False), (63, True)])
def test_the_gate_tells_saturated_answers_from_exact_ones(largest: int, passed: bool) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(128, 256, (8, host.WIDTH))
    weights = random.integers(0, 2, (host.WIDTH, 10)) * (2 * largest) - largest
    row = parity.compare(
        [pixels @ weights], [in_pairs(pixels, weights)], inputs="images", threshold=parity.THRESHOLDS["int8"]
    )
    assert row.passed == passed


def layer(kind: str, weight_dtype: str, arithmetic: str = "uint8") -> Layer:
    weights = 9 if weight_dtype else 0
    return Layer(
        name="blocks.3",
        kind=kind,
        weights=weights,
        weight_dtype=weight_dtype,
        weight_bytes=weights,
        arithmetic=arithmetic,
        macs=1,
    )


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("x86-avx2", [layer("Conv", "uint8"), layer("MatMul", ""), layer("Conv", "float32", "float32")]),
        ("x86-vnni", [layer("Conv", "int8"), layer("Gemm", "int8"), layer("Gemm", "uint8"), layer("MatMul", "")]),
        ("arm64", [layer("Conv", "int8"), layer("MatMul", "", "float32")]),
    ],
)
def test_integers_that_suit_a_host_are_taken(name: host.Host, layers: list[Layer]) -> None:
    host.check(layers, name)


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        (
            "x86-avx2",
            layer("Conv", "int8"),
            "blocks.3 has weights int8, activations uint8: x86-avx2 needs weights uint8",
        ),
        ("x86-avx2", layer("Gemm", "int8"), "blocks.3 has weights int8"),
        ("x86-avx2", layer("Conv", "uint8", "int8"), "activations int8: x86-avx2 needs"),
        (
            "x86-vnni",
            layer("Conv", "uint8"),
            "blocks.3 has weights uint8, activations uint8: x86-vnni needs weights int8",
        ),
        ("arm64", layer("MatMul", "", "int8"), "blocks.3 has weights none, activations int8: arm64 needs"),
    ],
)
def test_integers_that_do_not_are_refused(name: host.Host, wrong: Layer, message: str) -> None:
    with pytest.raises(PrecisionNotMet, match=message):
        host.check([layer("Conv", "float32", "float32"), wrong], name)


@pytest.mark.parametrize(
    ("here", "exact"),
    [("x86-avx2", {"x86-avx2"}), ("x86-vnni", set(host.HOSTS)), ("arm64", set(host.HOSTS))],
)
def test_a_machine_that_saturates_runs_unsigned_weights_alone_exactly(
    monkeypatch: pytest.MonkeyPatch, here: host.Host, exact: set[str]
) -> None:
    monkeypatch.setattr(host, "measured_host", lambda: here)
    assert {name for name in host.HOSTS if host.is_exact_for(name)} == exact
