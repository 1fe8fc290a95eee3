"""From the schema's objects to bytes and back: aligned, complete, fast, and refused when damaged."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given
from hypothesis import strategies as st

from evit_edge.converters.tflite.flatbuffer import pack, unpack
from evit_edge.models.errors import BadArtifact, ConversionFailed

from . import linear_file


def model_of(*contents: bytes, description: bytes = b"") -> schema.ModelT:
    model, graph = schema.ModelT(), schema.SubGraphT()
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [], []
    model.version, model.subgraphs, model.description = 3, [graph], description
    model.buffers = [schema.BufferT()]
    for content in contents:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(content, np.uint8)
        model.buffers.append(buffer)
    return model


def starts(data: bytes) -> list[int]:
    """Where the data of every buffer that is not empty starts in the file."""
    packed = np.frombuffer(data, np.uint8).ctypes.data
    return [
        buffer.data.ctypes.data - packed
        for buffer in unpack(data).buffers
        if buffer.data is not None and len(buffer.data)
    ]


@given(contents=st.lists(st.binary(max_size=70)), description=st.binary(max_size=20))
def test_every_buffer_starts_at_a_multiple_of_16_and_keeps_its_bytes(contents: list[bytes], description: bytes) -> None:
    data = pack(model_of(*contents, description=description))
    assert [start % 16 for start in starts(data)] == [0] * sum(bool(content) for content in contents)
    assert [bytes(buffer.data) for buffer in unpack(data).buffers[1:]] == contents


def test_the_packed_file_runs_in_both_interpreters(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(pack(unpack(linear_file.content())))
    assert all(start % 16 == 0 for start in starts(path.read_bytes()))
    image = np.random.default_rng(1).standard_normal((1, 8, 8, 3)).astype(np.float32)
    for package in ("ai_edge_litert", "tflite_runtime"):
        found = linear_file.run(package, path, image)
        np.testing.assert_allclose(found, image.reshape(1, -1) @ linear_file.WEIGHTS.T, atol=1e-4)


def test_signatures_and_metadata_stay() -> None:
    model = unpack(linear_file.content())
    entry = schema.MetadataT()
    entry.name, entry.buffer = "min_runtime_version", len(model.buffers)
    buffer = schema.BufferT()
    buffer.data = b"1.5.0".ljust(16, b"\0")
    model.buffers.append(buffer)
    model.metadata = [entry]
    once = pack(model)
    again = unpack(once)
    assert [(item.name, item.buffer) for item in again.metadata] == [(b"min_runtime_version", entry.buffer)]
    assert bytes(again.buffers[entry.buffer].data) == buffer.data.tobytes()
    (signature,) = again.signatureDefs
    assert [(item.name, item.tensorIndex) for item in signature.outputs] == [(b"logits", 4)]
    assert pack(again) == once


def test_what_follows_the_model_is_left_out() -> None:
    data = pack(unpack(linear_file.content()))
    assert pack(unpack(data + b"PK and more")) == data


def test_fifty_megabytes_are_not_copied_byte_by_byte() -> None:
    model = model_of(*[bytes(500_003)] * 100)
    start = time.perf_counter()
    pack(model)
    # Some 0.2 s alone on one core; a loop over the bytes takes a minute.
    assert time.perf_counter() - start < 5


def test_a_file_beyond_what_offsets_reach_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flatbuffers.Builder, "MAX_BUFFER_SIZE", 1 << 17)
    with pytest.raises(ConversionFailed, match="not possible"):
        pack(model_of(bytes(1 << 17)))


@pytest.mark.parametrize("data", [b"", b"TFL3", b"x" * 100, b"PK\x03\x04" + bytes(60), bytes(4) + b"TFL2" + bytes(60)])
def test_bytes_that_are_no_tflite_file_are_refused(data: bytes) -> None:
    with pytest.raises(BadArtifact, match="not a TFLite file"):
        unpack(data)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5, 0.8, 0.95])
def test_a_file_that_ends_early_is_refused(share: float) -> None:
    data = linear_file.content()
    with pytest.raises(BadArtifact, match="damaged"):
        unpack(data[: max(8, int(len(data) * share))])


@given(data=st.data())
def test_noise_behind_the_identifier_is_refused_or_read_and_never_a_traceback(data: st.DataObject) -> None:
    content = bytearray(linear_file.content())
    for _ in range(20):
        # The start holds what offsets and lengths are read from first.
        content[data.draw(st.integers(8, 1500))] = data.draw(st.integers(0, 255))
    with suppress(BadArtifact):
        unpack(bytes(content))


def test_a_model_without_a_graph_is_refused() -> None:
    model = model_of()
    model.subgraphs = []
    with pytest.raises(BadArtifact, match="no graph"):
        unpack(pack(model))


def test_weights_behind_the_flatbuffer_are_refused() -> None:
    model = model_of()
    model.buffers[0].offset, model.buffers[0].size = 4096, 16
    with pytest.raises(BadArtifact, match="not supported"):
        unpack(pack(model))
