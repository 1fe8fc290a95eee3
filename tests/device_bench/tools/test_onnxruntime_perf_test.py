"""Both generations of onnxruntime_perf_test are read, and what contradicts itself is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_edge.device_bench.tools.onnxruntime_perf_test import parse
from evit_edge.device_bench.tools.outcome import Footprint, Outcome
from evit_edge.models.errors import UnreadableOutput

from .reading import sample

CURRENT = sample("onnxruntime_perf_test_current.txt")


def test_the_old_generation_is_read() -> None:
    assert parse(sample("onnxruntime_perf_test_old.txt")) == Outcome(
        tool="onnxruntime_perf_test",
        generation="old",
        warm_ups=1,
        inferences=1000,
        mean_ns=58_805_300,
        min_ns=55_977_700,
        max_ns=62_347_200,
        percentiles_ns={
            "p50": 58_710_800, "p90": 59_984_500, "p95": 60_567_600, "p99": 61_951_700, "p99.9": 62_347_200,
        },
    )  # fmt: skip


def test_the_current_generation_is_read() -> None:
    assert parse(CURRENT) == Outcome(
        tool="onnxruntime_perf_test",
        generation="current",
        init_ns=41_200_000,
        first_ns=7_000_000,
        warm_ups=1,
        inferences=1000,
        mean_ns=1_234_000,
        min_ns=1_180_000,
        max_ns=4_020_000,
        percentiles_ns={"p50": 1_220_000, "p90": 1_310_000, "p95": 1_440_000, "p99": 2_010_000, "p99.9": 3_890_000},
        memory=Footprint(peak_bytes=51_298_304),
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Average inference time cost: 1.234 ms", "Average inference time cost total: 1.234000 ms"),
        ("P50 Latency: 0.00122 s", "P50 Latency is 0.00122sec"),
        ("P50 Latency: 0.00122 s", "P50 Latency is 1.22e-03 sec"),
        ("Session creation time cost: 0.0412 s", "Session creation time cost:0.0412 s"),
    ],
)
def test_the_words_of_other_releases_mean_the_same(old: str, new: str) -> None:
    assert old in CURRENT
    assert parse(CURRENT.replace(old, new)) == parse(CURRENT)


def test_a_first_inference_of_no_milliseconds_is_not_told() -> None:
    assert parse(CURRENT.replace("cost: 7 ms", "cost: 0 ms")).first_ns is None


def test_without_latencies_there_are_none() -> None:
    found = parse(CURRENT[: CURRENT.index("Min Latency")])
    assert (found.min_ns, found.max_ns, found.percentiles_ns, found.mean_ns) == (None, None, {}, 1_234_000)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("requests: 1000", "requests: 0", "is not the total time"),
        ("requests: 1000", "requests: 100", "is not the total time"),
        ("P95 Latency: 0.00144 s\n", "", "the latency P95 is missing"),
        ("P95 Latency: 0.00144 s", "P95 Latency: 0.00144", "cannot read the line"),
        ("Max Latency: 0.00402", "Max Latency: 0.00102", "contradict"),
        ("Total inference requests: 1000\n", "", "the number of inferences is missing"),
        ("cost: 1.234 ms", "cost: nan ms", "cannot read the line"),
    ],
)
def test_figures_that_cannot_be_are_refused(old: str, new: str, says: str) -> None:
    assert old in CURRENT
    with pytest.raises(UnreadableOutput, match=says):
        parse(CURRENT.replace(old, new))


@given(st.text())
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(UnreadableOutput):
        parse(text)
