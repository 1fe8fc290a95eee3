"""What so many processes can tell, by statistics whose truth is known, and that the floor is kept for a week."""

import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evit_edge.converters import child
from evit_edge.device_bench import resolution, verdict
from evit_edge.device_bench.resolution import Resolution, half_width, noise_floor, resolved
from evit_edge.device_bench.statistics import median_interval
from evit_edge.device_bench.verdict import Reading, compare
from evit_edge.models.errors import FileProblem

from .conftest import DEVICE

NOW = datetime(2025, 1, 2, tzinfo=UTC)


def scattered(deviation: float, *, count: int = 20, seed: int = 0) -> list[float]:
    rng = random.Random(seed)
    return [1e6 * math.exp(rng.gauss(0, deviation)) for _ in range(count)]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVIT_EDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def quick_children(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Instead of processes, twenty medians that scatter by a per cent."""
    medians = scattered(0.01)
    answers = iter(medians)
    monkeypatch.setattr(child, "call", lambda *_, **__: {"median_ns": next(answers), "disturbed": 0.04})
    return medians


@pytest.mark.parametrize("count", [6, 10, 20, 30])
def test_the_half_width_is_what_intervals_of_so_many_processes_have(count: int) -> None:
    widths = []
    for seed in range(2000):
        interval = median_interval([math.log(value) for value in scattered(0.02, count=count, seed=seed)])
        assert interval is not None
        widths.append((interval.high - interval.low) / 2)
    assert half_width(0.02, count) == pytest.approx(mean(widths), rel=0.04)


def test_five_processes_have_no_interval() -> None:
    assert half_width(0.02, 5) == math.inf


def test_the_spread_is_known_within_what_twenty_processes_leave_open() -> None:
    covered = 0
    for seed in range(100):
        found = resolved(scattered(0.02, seed=seed), disturbed=0, measured=NOW)
        low, high = found.variation_interval
        assert low < found.variation < high
        covered += low <= 0.02 <= high
    assert covered / 100 == pytest.approx(0.95, abs=0.05)


def test_a_narrower_interval_takes_more_processes_and_may_take_too_many() -> None:
    steady = resolved(scattered(0.005), disturbed=0, measured=NOW)
    assert steady.processes_for[0.05] == 6
    found = resolved(scattered(0.08), disturbed=0, measured=NOW)
    two, five = found.processes_for[0.02], found.processes_for[0.05]
    assert two is not None
    assert five is not None
    assert 6 < five < two
    assert half_width(found.variation, two) <= 0.02 < half_width(found.variation, five)
    assert found.processes_for[0.01] is None


def test_the_floor_is_that_of_comparisons_of_equal_things() -> None:
    floors = [resolved(scattered(0.02, seed=seed), disturbed=0, measured=NOW).noise_floor for seed in range(50)]
    changes = []
    for seed in range(2000):
        values = scattered(0.02, seed=seed)
        readings = [Reading(session="s", round=n // 2, order=n % 2, value=value) for n, value in enumerate(values)]
        change = compare(readings[::2], readings[1::2]).change
        assert change is not None
        changes.append(change)
    assert mean(floors) == pytest.approx(verdict.noise_floor(changes), rel=0.1)


def test_equal_processes_have_no_floor_at_all() -> None:
    assert resolved([1e6] * 20, disturbed=0, measured=NOW).noise_floor == 0


def test_twenty_processes_are_measured_and_kept(own_cache: Path, quick_children: list[float]) -> None:
    seen: list[int] = []
    found = resolution.measure(DEVICE, on_process=seen.append)
    assert seen == list(range(20))
    assert list(found.medians_ns) == quick_children
    assert found.disturbed == pytest.approx(0.04)
    assert noise_floor(DEVICE) == found.noise_floor > 0
    assert [file.suffix for file in (own_cache / "resolution").iterdir()] == [".json"]
    assert Resolution.model_validate_json(next((own_cache / "resolution").iterdir()).read_bytes()) == found


def test_another_machine_has_no_floor_and_a_busier_hour_has_the_same(
    own_cache: Path, quick_children: list[float]
) -> None:
    resolution.measure(DEVICE)
    assert noise_floor(DEVICE.model_copy(update={"cpu": "Other CPU"})) is None
    assert noise_floor(DEVICE.model_copy(update={"governor": "powersave"})) is None
    later = {"load_average": (9.0, 9.0, 9.0), "frequency_mhz": 800.0, "versions": {}}
    assert noise_floor(DEVICE.model_copy(update=later)) is not None


@pytest.mark.parametrize(("days", "known"), [(6.9, True), (7.1, False), (-0.1, False)])
def test_a_floor_is_good_for_a_week(own_cache: Path, quick_children: list[float], days: float, known: bool) -> None:
    found = resolution.measure(DEVICE)
    (file,) = (own_cache / "resolution").iterdir()
    old = found.model_copy(update={"measured": datetime.now(UTC) - timedelta(days=days)})
    file.write_text(old.model_dump_json(by_alias=True))
    assert (noise_floor(DEVICE) is not None) == known


@settings(max_examples=30)
@given(content=st.binary(max_size=60))
def test_a_damaged_file_is_no_floor(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVIT_EDGE_CACHE", str(cache))
        patch.setattr(child, "call", lambda *_, **__: {"median_ns": 1e6, "disturbed": 0.0})
        resolution.measure(DEVICE)
        (file,) = (cache / "resolution").iterdir()
        file.write_bytes(content)
        assert noise_floor(DEVICE) is None


def test_a_cache_that_cannot_be_written_is_said(own_cache: Path, quick_children: list[float]) -> None:
    own_cache.write_text("a file")
    with pytest.raises(FileProblem, match="EVIT_EDGE_CACHE"):
        resolution.measure(DEVICE)


def test_a_fresh_process_times_the_work() -> None:
    answer = child.call("evit_edge.device_bench.resolution", {}, timeout_s=60)
    assert 1e4 < answer["median_ns"] < 1e9
    assert 0 <= answer["disturbed"] <= 1
