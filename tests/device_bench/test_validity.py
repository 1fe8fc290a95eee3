"""Each reason on both sides of its threshold, and nothing without the facts."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evit_edge.device_bench.record import Conditions, Failure, Placement
from evit_edge.device_bench.result import Result, Trial
from evit_edge.device_bench.validity import Reason, disturbed, judge, lost_cpu

from .conftest import DEVICE, MakeResult, make_trial

CALM = {"load_average": 0.1, "stolen_s": 5.0, "probe_ns": 10_000_000}


def at(value_ns: float, number: int = 0, **changes: Any) -> Trial:
    """A process whose samples all take `value_ns`."""
    return make_trial(number, samples_ns=(round(value_ns),) * 5, **changes)


def conditions(**changes: Any) -> Conditions:
    return Conditions(**CALM | changes)


def between(before: Conditions, after: Conditions, *, count: int = 1, start: int = 0) -> list[Trial]:
    return [make_trial(start + number, before=before, after=after) for number in range(count)]


def reasons(result: Result) -> dict[str, str]:
    """Levels by code."""
    return {reason.code: reason.level for reason in judge(result).reasons}


def test_an_ordinary_result_is_valid(make_result: MakeResult) -> None:
    calm = between(conditions(), conditions(stolen_s=5.0), count=10)
    found = judge(make_result(trials=tuple(calm)))
    assert (found.level, found.reasons) == ("VALID", ())


def test_a_record_of_the_first_schema_gives_no_reason_for_what_it_does_not_hold(make_result: MakeResult) -> None:
    record = json.loads(make_result().model_dump_json(by_alias=True, exclude_none=True)) | {"schema": 1}
    for field in ("target", "artifact_digest", "size_bytes", "parity", "memory", "failure"):
        record.setdefault(field, None)
    for field in ("governor", "frequency_mhz", "virtualised", "load_average"):
        record["device"].setdefault(field, None)
    assert judge(Result.model_validate_json(json.dumps(record))).level == "VALID"


def test_the_worst_reason_is_the_level_and_all_are_told(make_result: MakeResult) -> None:
    cold = tuple(make_trial(number, warm_up_converged=False) for number in range(4))
    found = judge(make_result(trials=cold))
    assert found.level == "INVALID"
    assert [(reason.code, reason.level) for reason in found.reasons] == [("TOO_FEW", "SEMI"), ("WARM_UP", "INVALID")]
    assert found.reasons[1] == Reason(
        code="WARM_UP", level="INVALID", detail="warm-up did not settle in 4 of 4 processes"
    )


def test_a_failed_cell_is_invalid_with_its_message(make_result: MakeResult) -> None:
    failure = Failure(kind="DeviceFailed", message="was killed by SIGKILL", hint="")
    (failed, few) = judge(make_result(trials=(), failure=failure)).reasons
    assert (failed.code, failed.level, failed.detail) == ("FAILED", "INVALID", "was killed by SIGKILL")
    assert (few.code, few.level) == ("TOO_FEW", "INVALID")


@pytest.mark.parametrize(("count", "level"), [(0, "INVALID"), (2, "INVALID"), (3, "SEMI"), (5, "SEMI"), (6, None)])
def test_few_processes(make_result: MakeResult, count: int, level: str | None) -> None:
    trials = tuple(make_trial(number) for number in range(count))
    assert reasons(make_result(trials=trials)).get("TOO_FEW") == level


@pytest.mark.parametrize(("spread", "level"), [(0.029, None), (0.031, "SEMI"), (0.099, "SEMI"), (0.101, "INVALID")])
def test_noise_between_processes(make_result: MakeResult, spread: float, level: str | None) -> None:
    # ±x around the middle, as often each, has the standard deviation x √(n / (n - 1)).
    values = [1e7 * (1 + sign * spread * (9 / 10) ** 0.5) for sign in (1, -1) * 5]
    trials = tuple(at(value, number) for number, value in enumerate(values))
    assert reasons(make_result(trials=trials)).get("NOISY") == level


@pytest.mark.parametrize(("effort", "width", "level"), [
    ("quick", 0.049, None), ("quick", 0.051, "SEMI"), ("rigorous", 0.009, None), ("rigorous", 0.011, "SEMI"),
    ("an effort of tomorrow", 0.5, None),
])  # fmt: skip
def test_a_wide_interval(make_result: MakeResult, effort: str, width: float, level: str | None) -> None:
    # Neighbours in time alternate, so that no autocorrelation widens the interval.
    values = [1e7 * (1 + sign * width) for sign in (1, -1) * 3]
    trials = tuple(at(value, number) for number, value in enumerate(values))
    assert reasons(make_result(trials=trials, effort=effort)).get("WIDE") == level


@pytest.mark.parametrize(("change", "level"), [(0.045, None), (0.06, "SEMI"), (-0.06, "SEMI")])
def test_drift_over_the_session(make_result: MakeResult, change: float, level: str | None) -> None:
    trials = [at(1e8 * (1 + change * number / 9), number) for number in range(10)]
    # Time is told by the round, not by the place in the record.
    assert reasons(make_result(trials=tuple(reversed(trials)))).get("DRIFT") == level


@pytest.mark.parametrize(("cold", "level"), [(1, None), (2, "SEMI"), (9, "SEMI"), (10, "INVALID")])
def test_warm_up_that_did_not_settle(make_result: MakeResult, cold: int, level: str | None) -> None:
    trials = tuple(make_trial(number, warm_up_converged=number >= cold) for number in range(20))
    assert reasons(make_result(trials=trials)).get("WARM_UP") == level


@pytest.mark.parametrize(("lost", "level"), [(5, None), (6, "SEMI"), (25, "SEMI"), (26, "INVALID")])
@pytest.mark.parametrize("by", ["switches", "cpu_ns"])
def test_samples_that_lost_their_cpu(make_result: MakeResult, lost: int, level: str | None, by: str) -> None:
    marks = {
        "switches": [int(number < lost) for number in range(100)],
        "cpu_ns": [1_000_000 if number < lost else 1_060_000 for number in range(100)],
    }
    trials = tuple(make_trial(number, samples_ns=(1_060_000,) * 100, **{by: marks[by]}) for number in range(6))
    assert reasons(make_result(trials=trials)).get("DISTURBED") == level


def test_a_call_counts_as_waiting_from_five_per_cent_over_its_cpu_time() -> None:
    assert lost_cpu([1_050, 1_051, 900], cpu_ns=[1_000, 1_000, 1_000], switches=None) == (False, True, False)
    assert lost_cpu([1_000, 1_000], cpu_ns=[1_000, 1_000], switches=[0, 2]) == (False, True)
    assert lost_cpu([1_000], cpu_ns=None, switches=None) is None


@pytest.mark.parametrize(("changes", "known"), [({}, True), ({"threads": 2}, False), ({"target": "coreml"}, False)])
def test_cpu_time_tells_of_one_thread_on_the_cpu_alone(
    make_result: MakeResult, changes: dict[str, Any], known: bool
) -> None:
    trial = make_trial(samples_ns=(2_000_000,), cpu_ns=(1_000_000,))
    found = disturbed(make_result(trials=(trial,), **changes), trial.timing)
    assert found == ((True,) if known else None)


@pytest.mark.parametrize(
    ("threads", "load", "level"), [(1, 1.5, None), (1, 1.6, "SEMI"), (2, 2.5, None), (2, 2.6, "SEMI")]
)
def test_load_that_the_trials_do_not_explain(
    make_result: MakeResult, threads: int, load: float, level: str | None
) -> None:
    assert DEVICE.logical_cpus == 2
    trials = tuple(between(conditions(load_average=load), conditions(), count=6))
    assert reasons(make_result(trials=trials, threads=threads)).get("LOAD") == level


def test_load_from_before_the_measurement_does_not_count(make_result: MakeResult) -> None:
    earlier = between(conditions(load_average=9), conditions(), count=2)
    rest = between(conditions(), conditions(), count=4, start=2)
    assert "LOAD" not in reasons(make_result(trials=(*earlier, *rest)))


@pytest.mark.parametrize(("share", "level"), [(0.02, None), (0.04, "SEMI"), (0.09, "SEMI"), (0.11, "INVALID")])
def test_time_that_the_hypervisor_gave_to_others(make_result: MakeResult, share: float, level: str | None) -> None:
    seconds = make_trial(samples_ns=(10**9,) * 4).timing
    took = (seconds.load_ns + seconds.first_ns + sum(seconds.warm_up_ns) + sum(seconds.samples_ns)) / 1e9
    trials = tuple(
        make_trial(number, samples_ns=(10**9,) * 4, before=conditions(), after=conditions(stolen_s=5 + share * took))
        for number in range(6)
    )
    assert reasons(make_result(trials=trials)).get("LOAD") == level


@pytest.mark.parametrize(
    ("first", "later", "named"),
    [
        (0x0, 0x0, None),
        (0x50000, 0x50000, None),
        (0x0, 0x4, "throttled"),
        (0x50000, 0x50001, "under-voltage"),
        (0x50000, 0xD0000, "soft temperature limit"),
    ],
)
def test_a_board_that_throttles_now_or_has_begun_to(
    make_result: MakeResult, first: int, later: int, named: str | None
) -> None:
    start = between(conditions(throttled=first), conditions(throttled=first), count=3)
    end = between(conditions(throttled=first), conditions(throttled=later), count=3, start=3)
    found = judge(make_result(trials=(*start, *end))).reasons
    assert [(each.code, each.level, each.detail) for each in found] == (
        [("THERMAL", "INVALID", f"the board reports {named}")] if named else []
    )


@pytest.mark.parametrize(("before", "after", "level"), [(48.0, 70.0, None), (48.1, 48.1, "SEMI")])
def test_processes_that_start_warmer_than_the_first(
    make_result: MakeResult, before: float, after: float, level: str | None
) -> None:
    start = between(conditions(temperature_c=45), conditions(temperature_c=70), count=5)
    end = between(conditions(temperature_c=before), conditions(temperature_c=after), count=1, start=5)
    assert reasons(make_result(trials=(*start, *end))).get("THERMAL") == level


@pytest.mark.parametrize(("mhz", "slow", "level"), [
    (2281, 9, None), (2279, 0, None), (2279, 1, "SEMI"), (2279, 4, "SEMI"), (2279, 5, "INVALID"),
])  # fmt: skip
def test_a_clock_below_the_best_of_the_session(make_result: MakeResult, mhz: int, slow: int, level: str | None) -> None:
    fast, below = conditions(frequency_mhz=2400), conditions(frequency_mhz=mhz)
    trials = between(fast, below, count=slow) + between(fast, fast, count=10 - slow, start=slow)
    assert reasons(make_result(trials=tuple(trials))).get("FREQ") == level


@pytest.mark.parametrize(("probe_ns", "level"), [(10_990_000, None), (11_010_000, "SEMI")])
def test_a_slow_probe_stands_for_a_clock_that_nobody_tells(
    make_result: MakeResult, probe_ns: int, level: str | None
) -> None:
    calm = between(conditions(), conditions(), count=9)
    slow = between(conditions(probe_ns=probe_ns), conditions(), count=1, start=9)
    assert reasons(make_result(trials=(*calm, *slow))).get("FREQ") == level


def test_a_clock_that_is_told_counts_before_a_slow_probe(make_result: MakeResult) -> None:
    known = conditions(frequency_mhz=2400)
    trials = between(known, known, count=9) + between(known, conditions(frequency_mhz=2400, probe_ns=10**9), start=9)
    assert "FREQ" not in reasons(make_result(trials=tuple(trials)))


@pytest.mark.parametrize(
    ("delegate", "taken", "level"),
    [("XNNPACK", 0, "INVALID"), ("XNNPACK", 49, "SEMI"), ("XNNPACK", 50, None), (None, 0, None)],
)
def test_a_delegate_that_took_too_little(
    make_result: MakeResult, delegate: str | None, taken: int, level: str | None
) -> None:
    placement = Placement(delegate=delegate, nodes_taken=taken, nodes=100, partitions=1)
    trials = tuple(make_trial(number, placement=placement) for number in range(6))
    assert reasons(make_result(trials=trials)).get("FALLBACK") == level


@pytest.mark.parametrize(
    ("fed", "level"),
    [
        ([("float32", "int8")] * 6, None),
        ([("float32",)] * 5 + [()], None),
        ([("float32",)] * 5 + [("int8",)], "INVALID"),
        ([("float32", "float64")] * 6, "INVALID"),
    ],
)
def test_inputs_of_another_dtype(make_result: MakeResult, fed: list[tuple[str, ...]], level: str | None) -> None:
    trials = tuple(make_trial(number, input_dtypes=dtypes) for number, dtypes in enumerate(fed))
    assert reasons(make_result(trials=trials)).get("WRONG_DTYPE") == level


figures = st.one_of(st.none(), st.floats(0, 1e6))
counts = st.one_of(st.none(), st.integers(0, 2**32 - 1))
moments = st.builds(
    Conditions, load_average=figures, frequency_mhz=figures, temperature_c=figures, throttled=counts, stolen_s=figures,
    probe_ns=counts,
)  # fmt: skip


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_record_is_judged_and_says_why(make_result: MakeResult, data: st.DataObject) -> None:
    trials = []
    for number in range(data.draw(st.integers(0, 8))):
        samples = tuple(data.draw(st.lists(st.integers(1, 10**12), min_size=1, max_size=3)))
        before, after = (data.draw(st.one_of(st.none(), moments)) for _ in range(2))
        cpu_ns = data.draw(st.sampled_from([None, samples]))
        trials.append(make_trial(number, samples_ns=samples, cpu_ns=cpu_ns, before=before, after=after))
    found = judge(make_result(trials=tuple(trials)))
    assert (found.level == "VALID") == (not found.reasons)
    assert all(reason.detail for reason in found.reasons)


def test_what_an_emulator_took_says_nothing(make_result: MakeResult) -> None:
    assert "EMULATED" not in reasons(make_result(device=DEVICE.model_copy(update={"emulated": False})))
    assert reasons(make_result(device=DEVICE.model_copy(update={"emulated": True})))["EMULATED"] == "INVALID"
