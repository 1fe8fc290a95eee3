"""A device that got hot is waited for, and what it measured while it slowed itself down is measured again."""

import pytest

from evit_edge.device_bench import cooling, plan
from evit_edge.device_bench.device import DeviceInfo
from evit_edge.device_bench.journal import Entry
from evit_edge.device_bench.record import Conditions, Timing

from .conftest import MakeArtifact, MakeResult, make_trial
from .made_device import MadeDevice


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cooling, "PAUSE_S", 0.0)


@pytest.fixture
def device(make_result: MakeResult) -> MadeDevice:
    info: DeviceInfo = make_result().device
    return MadeDevice(info)


def timing(before: float | None, after: float | None, **told: int) -> Timing:
    last = Conditions.model_validate({"temperature_c": after, **told})
    return make_trial(before=Conditions(temperature_c=before), after=last).timing


def entry(number: int, before: float | None, after: float | None, **told: int) -> Entry:
    return Entry(cell=0, kind="time", round=number, order=0, seconds=1, timing=timing(before, after, **told))


def test_it_is_waited_for_until_it_is_as_cool_as_at_first(device: MadeDevice) -> None:
    device.temperatures = [70.0, 60.0, 50.0, 40.0]
    cooling.await_cool([entry(0, 41.0, 60.0), entry(1, 55.0, 75.0)], device, patience_s=60)
    assert device.temperatures == [40.0]


@pytest.mark.parametrize(("first", "last"), [(None, 90.0), (41.0, None), (41.0, 51.0), (None, None)])
def test_nothing_is_waited_for_without_heat(device: MadeDevice, first: float | None, last: float | None) -> None:
    device.temperatures = [90.0]
    cooling.await_cool([entry(0, first, last)], device, patience_s=60)
    cooling.await_cool([], device, patience_s=60)
    assert device.temperatures == [90.0]


def test_patience_ends(device: MadeDevice) -> None:
    device.temperatures = [90.0, 90.0]
    cooling.await_cool([entry(0, 41.0, 90.0)], device, patience_s=0)
    assert device.temperatures == [90.0, 90.0]


@pytest.mark.parametrize(
    ("told", "hot"),
    [
        ({"throttled": 0b1000}, True),
        ({"throttled": 0b0100}, True),
        ({"throttled": 0b0101}, False),
        ({"throttled": 0x80000}, False),
        ({"thermal_status": 2}, True),
        ({"thermal_status": 1}, False),
        ({}, False),
    ],
)
def test_heat_is_told_from_a_weak_supply_and_from_the_past(told: dict[str, int], hot: bool) -> None:
    assert cooling.was_hot(entry(0, 40.0, 60.0, **told)) == hot


@pytest.mark.parametrize(("cool_down_s", "jobs"), [(60.0, 7), (0.0, 6)])
def test_a_trial_in_heat_is_taken_again(
    device: MadeDevice, make_artifact: MakeArtifact, cool_down_s: float, jobs: int
) -> None:
    answers = [timing(40.0, 45.0, throttled=8)]
    device.timing = lambda: answers.pop() if answers else timing(40.0, 45.0)
    wanted = plan.Plan(
        cells=plan.cells([make_artifact()]), effort="quick", seed=0, command=["x"], cool_down_s=cool_down_s
    )
    (row,) = plan.run(wanted, device)
    assert device.jobs.count("time") == jobs
    assert [trial.round for trial in row.trials] == list(range(6))
