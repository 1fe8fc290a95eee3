"""LiteRT's three ways to tell the same are read alike, and only whole."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_edge.device_bench.tools.litert import parse
from evit_edge.device_bench.tools.outcome import Delegation, Footprint, Outcome
from evit_edge.models.errors import UnreadableOutput

from .reading import sample

PYTHON = Outcome(
    tool="litert",
    generation="Python",
    init_ns=24_650_000,
    first_ns=21_600_000,
    warm_ups=5,
    warm_up_ns=10_370_000,
    inferences=30,
    mean_ns=9_500_000,
    min_ns=1_320_000,
    max_ns=25_460_000,
    std_ns=9_920_000,
    percentiles_ns={"p5": 1_330_000, "p50": 1_600_000, "p95": 23_910_000},
    delegations=(Delegation(delegate=None, whole=True),),
)


def test_the_recorded_block_is_read() -> None:
    assert parse(sample("litert_python.txt")) == PYTHON


def test_the_json_of_the_same_run_says_the_same_and_names_the_accelerators() -> None:
    delegations = (Delegation(delegate="CPU", whole=True),)
    assert parse(sample("litert_python.json")) == PYTHON.model_copy(
        update={"generation": "JSON", "delegations": delegations}
    )


def test_the_block_of_the_binary_has_memory_and_no_percentiles() -> None:
    memory = Footprint(init_bytes=3_439_329, overall_bytes=9_867_100, peak_bytes=14_816_379)
    assert parse(sample("litert_cpp.txt")) == PYTHON.model_copy(
        update={"generation": "C++", "percentiles_ns": {}, "memory": memory, "delegations": ()}
    )


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("(30 runs)", "(0 runs)", "inferences"),
        ("9.50 ms", "0.00 ms", "mean_ns: Input should be greater than 0"),
        ("9.50 ms", "nan ms", "cannot read the line"),
        ("Inference (p5):        1.33 ms\n", "", "p5 is missing"),
        ("True", "Tru", "cannot read the line"),
        ("Inference (max)", "Inference (min)", "is there 2 times"),
        ("=\n", "\n", "has no end"),
        (" BENCHMARK RESULTS\n", "", "the block of results is missing"),
    ],
)
def test_a_block_that_is_not_whole_is_refused(old: str, new: str, says: str) -> None:
    text = sample("litert_python.txt")
    assert old in text
    with pytest.raises(UnreadableOutput, match=says):
        parse(text.replace(old, new))


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("num_runs", 0, "inferences"),
        ("avg_ms", None, "latency.avg_ms"),
        ("avg_ms", float("nan"), "latency.avg_ms"),
        ("p95_ms", 99.0, "contradict"),
    ],
)
def test_a_json_that_cannot_be_is_refused(key: str, value: Any, says: str) -> None:
    report = json.loads(sample("litert_python.json"))
    report["latency"][key] = value
    with pytest.raises(UnreadableOutput, match=says):
        parse(json.dumps(report))


@given(st.text() | st.text().map("{".__add__))
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(UnreadableOutput):
        parse(text)
