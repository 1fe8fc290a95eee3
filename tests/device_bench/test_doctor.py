"""What the doctor says of a machine's clock and of the differences that it can tell."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from evit_edge.converters import child
from evit_edge.device_bench import conditions, doctor, resolution
from evit_edge.device_bench.doctor import Finding, examine
from evit_edge.device_bench.on_local import LocalDevice

from .conftest import DEVICE

Examined = Callable[..., dict[str, Finding]]


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Examined:
    """The findings of a machine that is as `DEVICE` is, but for the given changes."""
    monkeypatch.setenv("EVIT_EDGE_CACHE", str(tmp_path))
    monkeypatch.setattr(doctor, "_plugins", lambda: ())
    monkeypatch.setattr(doctor, "_arithmetic", lambda: ())

    def examined(**changes: Any) -> dict[str, Finding]:
        monkeypatch.setattr(LocalDevice, "info", lambda self: DEVICE.model_copy(update=changes))
        return {finding.subject: finding for finding in examine()}

    return examined


def test_a_clock_that_nobody_tells_is_unknown(examined: Examined) -> None:
    clock = examined()["clock"]
    assert (clock.state, clock.advice) == ("ok", "")
    assert "unknown" in clock.detail


@pytest.mark.parametrize(
    ("governors", "state"),
    [(("performance",), "ok"), (("powersave",), "warning"), (("ondemand", "performance"), "warning")],
)
def test_a_clock_that_follows_the_load_is_warned_of(examined: Examined, governors: tuple[str, ...], state: str) -> None:
    clock = examined(governors=governors, max_frequency_mhz=4800.0)["clock"]
    assert clock.state == state
    assert clock.detail == f"governor {', '.join(governors)}, at most 4800 MHz"
    assert ("governor performance" in clock.advice) == (state == "warning")


@pytest.mark.parametrize(("bits", "state"), [(0x0, "ok"), (0x50000, "ok"), (0x50004, "warning")])
def test_a_board_that_throttles_is_warned_of(
    examined: Examined, monkeypatch: pytest.MonkeyPatch, bits: int, state: str
) -> None:
    monkeypatch.setattr(conditions, "throttled", lambda: bits)
    assert examined()["clock"].state == state


def test_the_instructions_that_matter_are_named(examined: Examined) -> None:
    assert "avx2, avx512_vnni" in examined(cpu_features=("avx2", "avx512_vnni"))["cpu"].detail
    assert "unknown" in examined()["cpu"].detail


def test_the_noise_floor_is_told_once_it_was_measured(examined: Examined, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = examined()["noise floor"]
    assert (unknown.state, unknown.advice) == ("missing", "evit-edge doctor --measure")
    answers = iter([1e6, 1.02e6] * (resolution.PROCESSES // 2))
    monkeypatch.setattr(child, "call", lambda *_, **__: {"median_ns": next(answers), "disturbed": 0.0})
    measured = resolution.measure(DEVICE)
    assert measured.measured <= datetime.now(UTC)
    known = examined()["noise floor"]
    assert (known.state, known.advice) == ("ok", "")
    assert f"{measured.noise_floor:.1%}" == "2.0%"
    assert "2.0%" in known.detail
