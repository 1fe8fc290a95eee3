"""The files of benchmark_model say what its text says; a part of a file is none."""

import runpy
import struct
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_edge.device_bench.record import OperatorTime
from evit_edge.device_bench.tools import benchmark_model
from evit_edge.device_bench.tools.benchmark_model_proto import confirm, operators, parse
from evit_edge.models.errors import UnreadableOutput

from .reading import sample

LATENCY = (11.8112, 11.698, 12.877, 0.104, 11.799, 11.720, 11.931, 4.301, 16.321, 11.9406)


def varint(number: int) -> bytes:
    more, low = number >> 7, number & 0x7F
    return bytes([low | 0x80]) + varint(more) if more else bytes([low])


def integer(field: int, number: int) -> bytes:
    return varint(field << 3) + varint(number)


def real(field: int, number: float) -> bytes:
    return varint(field << 3 | 5) + struct.pack("<f", number)


def within(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def result(*, runs: int = 85, mean_ms: float = LATENCY[0]) -> bytes:
    """Written by hand, field by field: the wire format is no part of what is tested."""
    latency = b"".join(real(number, ms) for number, ms in enumerate((mean_ms, *LATENCY[1:]), 1))
    memory = integer(1, 3356) + integer(2, 9632) + real(3, 14.125)
    misc = real(1, 3.57776) + integer(2, runs) + integer(3, 42) + real(4, 50.5)
    return within(1, b"m") + within(2, latency) + within(3, memory) + within(4, misc)


def profile(*, count: int = 85) -> bytes:
    names = [(2, "SOFTMAX", "[Identity]:1", 2006), (1, "CONV_2D", "[model/conv2d/Relu6]:0", 31204)]
    found = b""
    for order, kind, name, us in names:
        statistics = integer(1, us) + integer(3, us) + real(4, 1.5) + integer(9, count)
        operator = within(1, kind.encode()) + within(2, statistics) + integer(4, 1) + within(5, name.encode())
        found += within(3, operator + integer(6, order))
    return within(1, b"m.tflite") + within(3, within(1, within(1, b"Primary graph") + found))


def test_the_result_file_says_what_the_text_says() -> None:
    printed, filed = benchmark_model.parse(sample("benchmark_model_current.txt")), parse(result())
    confirm(printed, filed)
    kept = printed.model_copy(update={"delegations": (), "ignored_flags": (), "memory": filed.memory})
    assert filed == kept
    assert filed.memory is not None
    assert (filed.memory.init_bytes, filed.memory.overall_bytes) == (3356 * 1024, 9632 * 1024)
    assert filed.memory.peak_bytes == 14_811_136


@pytest.mark.parametrize(("runs", "mean_ms", "says"), [(84, LATENCY[0], "inferences is 85"), (85, 11.813, "mean_ns")])
def test_files_of_another_run_are_not_confirmed(runs: int, mean_ms: float, says: str) -> None:
    printed = benchmark_model.parse(sample("benchmark_model_current.txt"))
    with pytest.raises(UnreadableOutput, match=says):
        confirm(printed, parse(result(runs=runs, mean_ms=mean_ms)))


def test_a_percentile_that_the_file_lacks_is_not_confirmed() -> None:
    printed, filed = benchmark_model.parse(sample("benchmark_model_current.txt")), parse(result())
    with pytest.raises(UnreadableOutput, match="p95"):
        confirm(printed, filed.model_copy(update={"percentiles_ns": {"p5": 11_720_000.0, "p50": 11_799_000.0}}))


def test_every_part_of_a_result_file_is_refused() -> None:
    whole = result()
    for length in range(len(whole)):
        with pytest.raises(UnreadableOutput) as caught:
            parse(whole[:length])
        assert bytes.fromhex(caught.value.text) == whole[:length]


@pytest.mark.parametrize(("runs", "mean_ms"), [(0, LATENCY[0]), (85, float("nan")), (85, float("inf")), (85, 0.0)])
def test_impossible_figures_are_refused(runs: int, mean_ms: float) -> None:
    with pytest.raises(UnreadableOutput, match="cannot be those"):
        parse(result(runs=runs, mean_ms=mean_ms))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(content: bytes) -> None:
    for read in (parse, operators):
        with pytest.raises(UnreadableOutput):
            read(content)


def test_a_profile_file_says_what_the_text_says() -> None:
    text = sample("benchmark_model_current_profile.txt")
    assert operators(profile()) == benchmark_model.parse(text, operators=True).operators
    assert operators(profile())[1] == OperatorTime(name="[Identity]:1", kind="SOFTMAX", ns=2_006_000)


def test_a_profile_of_no_runs_is_refused() -> None:
    with pytest.raises(UnreadableOutput, match="no whole profile"):
        operators(profile(count=0))


def test_our_field_numbers_are_those_of_the_published_messages() -> None:
    found = find_spec("tensorflow")
    if found is None or found.origin is None:
        pytest.skip("TensorFlow, which has the messages' published description, is not installed")
    # Without its package, which takes seconds to import.
    described = Path(found.origin).parent / "lite" / "profiling" / "proto" / "profiling_info_pb2.py"
    published = runpy.run_path(str(described))
    data = published["BenchmarkProfilingData"]()
    graph = data.runtime_profile.subgraph_profiles.add(subgraph_name="Primary graph")
    told = graph.per_op_profiles.add(node_type="ADD", times_called=2, name="sum", run_order=1)
    told.inference_microseconds.avg, told.inference_microseconds.count = 7, 3
    assert operators(data.SerializeToString()) == (OperatorTime(name="sum", kind="ADD", ns=14_000),)
