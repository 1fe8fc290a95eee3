"""Counters of energy on made-up trees: which are read, what a wrap does, and what is made of them."""

from pathlib import Path

import pytest

from evit_edge.device_bench import energy
from evit_edge.models.errors import DeviceFailed, Unsupported

RANGE_UJ = 262_143_328_850
POWERCAP = "sys/class/powercap"


def zone(root: Path, number: str, name: str, *, energy_uj: int | str = 0) -> Path:
    folder = root / POWERCAP / f"intel-rapl:{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    return folder / "energy_uj"


class Meter:
    """A clock, and a counter that rises with it: so many watts, more while something runs."""

    def __init__(
        self, file: Path, *, idle_watts: float, busy_watts: float, start_uj: int = 0, call_s: float = 0.1
    ) -> None:
        self.file, self.idle, self.busy, self.call_s = file, idle_watts, busy_watts, call_s
        self.seconds, self.uj = 0.0, float(start_uj)

    def clock(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self._pass(seconds, self.idle)

    def run(self, feeds: None) -> None:
        self._pass(self.call_s, self.busy)

    def _pass(self, seconds: float, watts: float) -> None:
        self.seconds += seconds
        self.uj = (self.uj + seconds * watts * 1e6) % RANGE_UJ
        self.file.write_text(f"{round(self.uj)}\n")


def test_processors_are_one_source_and_the_board_another(tmp_path: Path) -> None:
    zone(tmp_path, "0", "package-0")
    zone(tmp_path, "0:0", "core")
    zone(tmp_path, "0:1", "dram")
    zone(tmp_path, "1", "package-1")
    zone(tmp_path, "2", "psys")
    assert [source.name for source in energy.sources(tmp_path)] == ["RAPL package-0 + package-1", "RAPL psys"]
    assert energy.source(tmp_path).name == "RAPL package-0 + package-1"


def test_joules_are_counted_from_the_first_reading_over_all_processors(tmp_path: Path) -> None:
    files = [zone(tmp_path, str(number), f"package-{number}", energy_uj=7_000_000) for number in range(2)]
    source = energy.source(tmp_path)
    assert source.joules() == 0
    files[0].write_text("9500000\n")
    files[1].write_text("8000000\n")
    assert source.joules() == pytest.approx(3.5)
    assert source.joules() == pytest.approx(3.5)


def test_a_counter_that_begins_again_goes_on_counting(tmp_path: Path) -> None:
    file = zone(tmp_path, "0", "package-0", energy_uj=RANGE_UJ - 1_000_000)
    source = energy.source(tmp_path)
    source.joules()
    file.write_text("2000000\n")
    assert source.joules() == pytest.approx(3)
    file.write_text("2500000\n")
    assert source.joules() == pytest.approx(3.5)


@pytest.mark.parametrize("content", ["", "lots", "-"])
def test_a_counter_that_holds_no_number_is_no_source(tmp_path: Path, content: str) -> None:
    zone(tmp_path, "0", "package-0", energy_uj=content)
    assert energy.sources(tmp_path) == []


def test_a_machine_without_a_counter_is_refused_with_what_has_one(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="no counter") as caught:
        energy.source(tmp_path)
    assert "RAPL" in caught.value.hint


def test_a_counter_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    file = zone(tmp_path, "0", "package-0")
    file.unlink()
    file.mkdir()  # what stands for a counter that is for root alone, since root may read every file
    with pytest.raises(Unsupported, match="energy_uj is not readable") as caught:
        energy.source(tmp_path)
    assert "root" in caught.value.hint


def test_a_counter_that_goes_away_is_a_failure_of_the_device(tmp_path: Path) -> None:
    file = zone(tmp_path, "0", "package-0")
    source = energy.source(tmp_path)
    file.unlink()
    with pytest.raises(DeviceFailed, match="energy_uj"):
        source.joules()


@pytest.mark.parametrize("start_uj", [0, RANGE_UJ - 60_000_000])
def test_repetitions_and_idle_power_are_told_apart(tmp_path: Path, start_uj: int) -> None:
    file = zone(tmp_path, "0", "package-0", energy_uj=start_uj)
    meter = Meter(file, idle_watts=4, busy_watts=15, start_uj=start_uj)
    found = energy.measured(meter.run, None, energy.source(tmp_path), clock=meter.clock, sleep=meter.sleep)
    assert found.source == "RAPL package-0"
    assert found.idle_watts == pytest.approx(4)
    assert found.inferences == 20
    assert found.joules == pytest.approx([0.1 * 15 * 20] * 5)


def test_a_call_longer_than_a_repetition_is_one_each(tmp_path: Path) -> None:
    meter = Meter(zone(tmp_path, "0", "package-0"), idle_watts=4, busy_watts=15, call_s=7)
    found = energy.measured(meter.run, None, energy.source(tmp_path), clock=meter.clock, sleep=meter.sleep)
    assert found.inferences == 1
    assert found.joules == pytest.approx([7 * 15] * 5)


def test_a_counter_that_stands_still_is_none(tmp_path: Path) -> None:
    meter = Meter(zone(tmp_path, "0", "package-0"), idle_watts=0, busy_watts=0)
    with pytest.raises(Unsupported, match="does not count"):
        energy.measured(meter.run, None, energy.source(tmp_path), clock=meter.clock, sleep=meter.sleep)
