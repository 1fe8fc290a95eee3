"""Several devices measure at the same time, each for itself: what ends one of them does not end the others."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from evit_edge.converters.artifact import Artifact
from evit_edge.device_bench import plan, several
from evit_edge.device_bench.device import DeviceInfo, connect
from evit_edge.device_bench.holding import held
from evit_edge.device_bench.plan import Step
from evit_edge.device_bench.record import Placement, Timing
from evit_edge.device_bench.several import Lot, Watch, measure
from evit_edge.models.errors import DeviceFailed, LinkLost

from .conftest import MakeArtifact, MakeResult, make_trial, wait_until
from .made_device import MadeDevice


@pytest.fixture
def info(make_result: MakeResult) -> DeviceInfo:
    return make_result().device


def lot(artifact: Artifact, device: MadeDevice, address: str, kept: Path | None = None, **changes: object) -> Lot:
    known = {"effort": "quick", "seed": 0, "command": ["evit-edge"], **changes}
    return Lot(plan=plan.Plan(cells=plan.cells([artifact]), **known), device=device, address=address, kept=kept)  # type: ignore[arg-type]


def test_all_devices_measure_at_the_same_time(make_artifact: MakeArtifact, info: DeviceInfo) -> None:
    # None of them answers before all of them were asked.
    together = threading.Barrier(3, timeout=20)

    def once() -> Callable[[], None]:
        waits = [True]

        def wait() -> None:
            if waits.pop() if waits else False:
                together.wait()

        return wait

    devices = [MadeDevice(info, on_job=once()) for _ in range(3)]
    artifact, steps = make_artifact(), list[tuple[int, str]]()
    watch = Watch(on_step=lambda number, step: steps.append((number, step.label)))
    ended = measure([lot(artifact, each, f"ssh:{place}") for place, each in enumerate(devices)], watch=watch)
    assert [len(one.results[0].trials) for one in ended] == [6, 6, 6]
    assert {number for number, _ in steps} == {0, 1, 2}
    assert not any(one.lost for one in ended)


def test_with_one_at_once_they_take_turns(make_artifact: MakeArtifact, info: DeviceInfo) -> None:
    artifact, order = make_artifact(), list[int]()
    lots = [lot(artifact, MadeDevice(info), f"ssh:{place}") for place in range(3)]
    measure(lots, at_once=1, watch=Watch(on_step=lambda number, step: order.append(number)))
    assert order == sorted(order)


def test_a_device_that_goes_away_is_tried_again_and_then_given_up_alone(
    make_artifact: MakeArtifact, info: DeviceInfo, tmp_path: Path
) -> None:
    calls = [0]

    def gone() -> None:
        calls[0] += 1
        if calls[0] > 2:
            raise LinkLost("pi went away")

    artifact, journal = make_artifact(), tmp_path / "trials.jsonl"
    good, bad = MadeDevice(info), MadeDevice(info, on_job=gone)
    ended = measure([lot(artifact, good, "ssh:good"), lot(artifact, bad, "ssh:bad", journal)])
    assert ended[0].lost is None
    assert ended[0].results[0].failure is None
    assert isinstance(ended[1].lost, LinkLost)
    assert calls == [2 + 3]
    (row,) = ended[1].results
    assert row.failure
    assert row.failure.kind == "LinkLost"
    again = MadeDevice(info)
    (whole,) = measure([lot(artifact, again, "ssh:bad", journal)])
    assert [trial.round for trial in whole.results[0].trials] == list(range(6))
    assert whole.results[0].failure is None
    assert again.jobs.count("time") == 6 - 2


def test_a_link_that_comes_back_has_lost_nothing(make_artifact: MakeArtifact, info: DeviceInfo) -> None:
    calls = [0]

    def cut_once() -> None:
        calls[0] += 1
        if calls[0] == 3:
            raise LinkLost("pi went away")

    (ended,) = measure([lot(make_artifact(), MadeDevice(info, on_job=cut_once), "ssh:pi")])
    assert [trial.round for trial in ended.results[0].trials] == list(range(6))
    assert ended.results[0].failure is None


def test_a_device_that_does_not_say_what_it_is_ends_its_own_lot(make_artifact: MakeArtifact, info: DeviceInfo) -> None:
    class Silent(MadeDevice):
        def info(self) -> DeviceInfo:
            raise DeviceFailed("it does not say properly what it is")

    artifact = make_artifact()
    good, bad = measure([lot(artifact, MadeDevice(info), "ssh:a"), lot(artifact, Silent(info), "ssh:b")])
    assert good.results[0].failure is None
    assert (list(bad.results), str(bad.lost)) == ([], "it does not say properly what it is")


def test_an_error_of_our_own_ends_all_and_nothing_of_it_is_kept(
    make_artifact: MakeArtifact, info: DeviceInfo, tmp_path: Path
) -> None:
    begun = threading.Event()

    def slow() -> None:
        begun.set()
        wait_until(lambda: devices[0].is_interrupted)

    def fail(number: int, step: Step) -> None:
        if number == 1:
            begun.wait(20)
            raise KeyboardInterrupt

    devices = [MadeDevice(info, on_job=slow), MadeDevice(info)]
    artifact, journal = make_artifact(), tmp_path / "trials.jsonl"
    lots = [lot(artifact, devices[0], "ssh:a", journal), lot(artifact, devices[1], "ssh:b")]
    with pytest.raises(KeyboardInterrupt):
        measure(lots, watch=Watch(on_step=fail))
    assert all(device.is_interrupted for device in devices)
    assert len(journal.read_text().splitlines()) == 1


def test_a_lot_waits_for_a_device_that_another_run_has(make_artifact: MakeArtifact, info: DeviceInfo) -> None:
    waiting, found = threading.Event(), list[several.Ended]()
    watch = Watch(on_wait=lambda number: waiting.set())
    mine = lot(make_artifact(), device := MadeDevice(info), "ssh:pi")
    with held("ssh:pi"):
        thread = threading.Thread(target=lambda: found.extend(measure([mine], watch=watch)))
        thread.start()
        assert waiting.wait(20)
        assert device.jobs == []
    thread.join()
    assert len(found[0].results[0].trials) == 6


def placed(taken: int | None) -> Timing:
    placement = Placement(delegate="GPU", nodes_taken=taken, nodes=66, partitions=1)
    return make_trial(placement=placement).timing


@pytest.mark.parametrize("taken", [65, 0, None])
def test_strict_placement_fails_what_a_delegate_does_not_run_whole(
    make_artifact: MakeArtifact, info: DeviceInfo, taken: int | None
) -> None:
    device = MadeDevice(info)
    device.timing = lambda: placed(taken)
    artifact = make_artifact()
    (strict,) = measure([lot(artifact, device, "ssh:pi", strict_placement=True)])
    assert strict.results[0].failure
    assert "of 66 nodes" in strict.results[0].failure.message
    (usual,) = measure([lot(artifact, device, "ssh:pi")])
    assert usual.results[0].failure is None
    device.timing = lambda: placed(66)
    (whole,) = measure([lot(artifact, device, "ssh:pi", strict_placement=True)])
    assert whole.results[0].failure is None


def test_this_machine_offers_no_engine_of_phones() -> None:
    names = several.offered(connect("local"))
    assert "onnxruntime" in names
    assert not any(name.startswith("benchmark_model") for name in names)
