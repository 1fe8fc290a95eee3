"""Every generation of TFLite's benchmark_model is read to the last digit, and what is not one whole run is refused."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_edge.device_bench.record import OperatorTime
from evit_edge.device_bench.tools.benchmark_model import parse
from evit_edge.device_bench.tools.outcome import Delegation, Footprint, Outcome
from evit_edge.models.errors import UnreadableOutput, Unsupported

from .reading import sample

CURRENT = sample("benchmark_model_current.txt")
RUN = "Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.\n"


def test_the_first_generation_has_no_percentiles() -> None:
    assert parse(sample("benchmark_model_2019.txt")) == Outcome(
        tool="benchmark_model",
        generation="2019",
        init_ns=9_933_000,
        first_ns=127_425_000,
        warm_ups=7,
        warm_up_ns=75_405_600,
        inferences=50,
        mean_ns=66_767_600,
        min_ns=66_699_000,
        max_ns=66_838_000,
        std_ns=39_000,
    )


def test_the_second_generation_has_memory_and_scientific_notation() -> None:
    assert parse(sample("benchmark_model_2020.txt")) == Outcome(
        tool="benchmark_model",
        generation="2020",
        init_ns=855_000,
        first_ns=49_060_000,
        warm_ups=15,
        warm_up_ns=34_825_100,
        inferences=50,
        mean_ns=1_233_570_000,
        min_ns=1_232_641_000,
        max_ns=1_234_005_000,
        std_ns=450_000,
        memory=Footprint(init_bytes=0, overall_bytes=13_492_237),
        delegations=(Delegation(delegate="XNNPACK"),),
    )


def test_the_current_generation_tells_placement_memory_and_unknown_flags() -> None:
    assert parse(CURRENT) == Outcome(
        tool="benchmark_model",
        generation="current",
        init_ns=4_301_000,
        first_ns=16_321_000,
        warm_ups=42,
        warm_up_ns=11_940_600,
        inferences=85,
        mean_ns=11_811_200,
        min_ns=11_698_000,
        max_ns=12_877_000,
        std_ns=104_000,
        percentiles_ns={"p5": 11_720_000, "p50": 11_799_000, "p95": 11_931_000},
        memory=Footprint(init_bytes=3_436_540, overall_bytes=9_863_168, peak_bytes=14_811_136),
        delegations=(
            Delegation(delegate="GPU", whole=False, kernels=2),
            Delegation(delegate="NNAPI", whole=False, kernels=0),
        ),
        ignored_flags=("--use_gpuu=true", "--frobnicate=1"),
    )


def test_runs_that_all_took_the_same_have_one_figure_for_all() -> None:
    found = parse(sample("benchmark_model_current_same.txt"))
    assert (found.warm_ups, found.first_ns, found.warm_up_ns) == (1, 533_000, 533_000)
    assert (found.inferences, found.mean_ns, found.min_ns, found.max_ns, found.std_ns) == (50, 15e3, 15e3, 15e3, 0)
    assert found.percentiles_ns == {"p5": 15_000, "p50": 15_000, "p95": 15_000}
    assert found.delegations == (Delegation(delegate="XNNPACK", whole=True, kernels=1),)


@pytest.mark.parametrize("generation", ["2020", "current"])
def test_operators_are_read_where_they_are_asked_for(generation: str) -> None:
    text = sample(f"benchmark_model_{generation}_profile.txt")
    assert parse(text).operators == ()
    assert parse(text, operators=True).operators == (
        OperatorTime(name="[model/conv2d/Relu6]:0", kind="CONV_2D", ns=31_204_000),
        OperatorTime(name="[Identity]:1", kind="SOFTMAX", ns=2_006_000),
    )


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("2 nodes observed", "3 nodes observed", "lists 2 operators, and says that it saw 3"),
        ("2 nodes observed", "", "saw none"),
        ("31.204", "nan", "cannot read the profile's line"),
        ("[cdf%]", "[sum%]", "columns are not known"),
        ("Operator-wise Profiling Info for Regular Benchmark Runs:", "", "there is no profile"),
        ("Top by Computation Time", "Top by Memory Use", "no table 'Top by Computation Time'"),
    ],
)
def test_a_profile_that_is_not_whole_is_refused(old: str, new: str, says: str) -> None:
    text = sample("benchmark_model_current_profile.txt")
    with pytest.raises(UnreadableOutput, match=says.replace("[", r"\[")):
        parse(text.replace(old, new), operators=True)


def test_two_tables_of_a_profile_that_differ_are_refused() -> None:
    text = sample("benchmark_model_current_profile.txt")
    with pytest.raises(UnreadableOutput, match="two tables"):
        parse(text.replace("31.204", "31.205", 1), operators=True)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("count=85 first=11760", "count=0 first=11760", "inferences: Input should be greater than or equal to 1"),
        ("std=104", "std=-nan", "cannot read the line"),
        ("avg=11811.2", "avg=11811.3", "contradicts"),
        ("First inference: 16321", "First inference: 1632", "contradicts"),
        ("min=11698", "min=12698", "contradict one another"),
        ("median=11799", "median=1179", "contradict one another"),
        ("avg=11811.2 ", "avg=1e999 ", "contradicts"),
        ("Init: 4301", "Init: 4e999", "init_ns: Input should be a finite number"),
        ("INFO: Inference timings", "Inference timings", "begin with INFO"),
        (RUN, RUN + "INFO: " + RUN, "one warm-up, one run"),
        ("overall=9.40625", "overall=9.4.625", "cannot read the line"),
        ("2 delegate kernels", "x delegate kernels", "cannot read the line"),
    ],
)
def test_a_figure_that_cannot_be_is_refused(old: str, new: str, says: str) -> None:
    assert old in CURRENT
    with pytest.raises(UnreadableOutput, match=says):
        parse(CURRENT.replace(old, new))


def test_no_runs_at_all_are_no_result() -> None:
    lines = [
        "INFO: count=0\n" if each.startswith("INFO: count=85") else each for each in CURRENT.splitlines(keepends=True)
    ]
    with pytest.raises(UnreadableOutput, match="'INFO: count=0'"):
        parse("".join(lines))


@pytest.mark.parametrize(
    "line", ["count=5 curr=15 p5=15 median=15 p95=15", "count=1 curr=15(all same) p5=15 median=15 p95=15"]
)
def test_only_several_runs_are_all_the_same(line: str) -> None:
    text = sample("benchmark_model_current_same.txt")
    with pytest.raises(UnreadableOutput, match="cannot read the line"):
        parse(text.replace("count=50 curr=15(all same) p5=15 median=15 p95=15", line))


def test_a_refused_fallback_is_no_unreadable_text() -> None:
    with pytest.raises(Unsupported, match="does not take the whole model"):
        parse("INFO: Loaded model m.tflite\nERROR: Disallowed CPU fallback detected.\n")


def test_the_tools_own_complaint_is_the_hint_and_all_text_is_kept() -> None:
    text = "INFO: Graph: [m.tflite]\nERROR: Failed to load model m.tflite\nERROR: Benchmarking failed.\n"
    with pytest.raises(UnreadableOutput) as caught:
        parse(text)
    assert caught.value.hint == "it says: ERROR: Benchmarking failed."
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.message, again.hint, again.text) == (caught.value.message, caught.value.hint, text)


def test_a_graph_whose_name_looks_like_a_result_disturbs_nothing() -> None:
    text = CURRENT.replace("Graph: [/data/local/tmp/m.tflite]", "Graph: [/x/count=3 memory footprint.tflite]")
    assert text != CURRENT
    assert parse(text) == parse(CURRENT)


@given(st.text())
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(UnreadableOutput):
        parse(text)


@given(st.lists(st.integers(1, 10**9), min_size=2).filter(lambda runs: min(runs) < max(runs)), st.integers(0, 10**9))
def test_what_the_tool_prints_of_any_runs_is_what_is_read(runs: list[int], init: int) -> None:
    mean = f"{sum(runs) / len(runs):g}"
    statistics = f"count={len(runs)} first={runs[0]} curr={runs[-1]} min={min(runs)} max={max(runs)} avg={mean} std=0\n"
    summary = (
        f"Inference timings in us: Init: {init}, First inference: {runs[0]}, Warmup (avg): {mean}, Inference (avg): "
    )
    found = parse(RUN + statistics + RUN + statistics + summary + mean + "\n")
    assert (found.inferences, found.first_ns, found.init_ns) == (len(runs), runs[0] * 1000, init * 1000)
    assert (found.min_ns, found.max_ns) == (min(runs) * 1000, max(runs) * 1000)
    assert found.mean_ns == pytest.approx(sum(runs) / len(runs) * 1000, rel=1e-5)
