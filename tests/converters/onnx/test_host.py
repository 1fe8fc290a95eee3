"""What the CPU does with products that 8 bits can only just hold, as found by trying."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from evit_edge.converters.onnx import engine, host
from evit_edge.device_bench import doctor


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
        products = feeds["x"].astype(np.int64)[:, :, None] * self.weights[None]
        pairs = (products[:, ::2] + products[:, 1::2]).clip(-(2**15), 2**15 - 1)
        return [pairs.sum(1).astype(np.float32)]


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
