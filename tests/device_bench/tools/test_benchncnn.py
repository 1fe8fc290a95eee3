"""benchncnn's lines are read model by model, long names included."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_edge.device_bench.tools.benchncnn import parse
from evit_edge.device_bench.tools.outcome import Outcome
from evit_edge.models.errors import UnreadableOutput

from .reading import sample

TEXT = sample("benchncnn.txt")


def figures(name: str, *, low: int, high: int, mean: int) -> Outcome:
    return Outcome(
        tool="benchncnn", generation="current", model=name, inferences=8, min_ns=low, max_ns=high, mean_ns=mean
    )


def test_every_model_has_its_record_whatever_the_length_of_its_name() -> None:
    assert parse(TEXT) == (
        figures("squeezenet", low=4_870_000, high=5_100_000, mean=4_950_000),
        figures("mobilenet", low=7_010_000, high=7_330_000, mean=7_120_000),
        figures("efficientvit_m0_cifar10_96px", low=123_400_000, high=150_250_000, mean=131_070_000),
    )


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("loop_count = 8", "loop_count = 0", "inferences"),
        ("loop_count = 8\n", "", "loop_count is missing"),
        ("   4.95", "   9.95", "contradict"),
        ("   4.95", "    nan", "cannot read the line"),
        ("          squeezenet", "squeezenet", "cannot read the line"),
        ("           mobilenet", "          squeezenet", "one line a model"),
        ("avg =", "avg", "cannot read the line"),
    ],
)
def test_a_line_that_is_not_whole_is_refused(old: str, new: str, says: str) -> None:
    assert old in TEXT
    with pytest.raises(UnreadableOutput, match=says):
        parse(TEXT.replace(old, new))


def test_a_run_without_a_model_is_no_result() -> None:
    with pytest.raises(UnreadableOutput, match="no line of a model"):
        parse(TEXT[: TEXT.index("          squeezenet")])


@given(st.text(min_size=1, max_size=40, alphabet="abc_0 -.").map(str.strip).filter(bool), st.integers(1, 10**6))
def test_any_name_is_read_as_it_was_printed(name: str, hundredths: int) -> None:
    ms = hundredths / 100
    text = "loop_count = 4\n" + f"{name:>20}  min = {ms:7.2f}  max = {ms:7.2f}  avg = {ms:7.2f}\n"
    (found,) = parse(text)
    assert (found.model, found.mean_ns, found.inferences) == (name, hundredths * 10_000, 4)
