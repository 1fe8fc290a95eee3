"""`doctor --measure`, by its functions in this process and as a user runs it."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from evit_edge.converters import child
from evit_edge.device_bench.resolution import Resolution
from evit_edge.edge.cmd_doctor import doctor

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Processes that differ by two per cent, turn and turn about, and lose their CPU in every twentieth sample."""
    monkeypatch.setenv("EVIT_EDGE_CACHE", str(tmp_path))
    answers = iter([1e6, 1.02e6] * 10)
    monkeypatch.setattr(child, "call", lambda *_, **__: {"median_ns": next(answers), "disturbed": 0.05})


@pytest.mark.usefixtures("steady")
def test_a_person_reads_what_can_be_told(capsys: pytest.CaptureFixture[str]) -> None:
    doctor(measure=True, quiet=True)
    said = capsys.readouterr().out
    for words in (
        r"processes differ by         1.0% (standard deviation, 0.8% to 1.5% at 95 %)",
        r"samples that lost their CPU 5.0%",
        r"interval of 10 processes    ±1.0%",
        r"processes for ±5%           6",
        r"noise floor                 2.0%",
        "20 processes of one matrix product",
    ):
        assert words in said


@pytest.mark.usefixtures("steady")
def test_a_program_reads_the_record(capsys: pytest.CaptureFixture[str]) -> None:
    doctor(measure=True, json=True, quiet=True)
    found = Resolution.model_validate(json.loads(capsys.readouterr().out))
    assert found.half_widths[30] < found.half_widths[6]


@pytest.mark.slow
def test_this_machine_is_measured_as_a_user_does_it(evit_edge: Run) -> None:
    done = evit_edge("doctor", "--measure", "--json")
    assert done.returncode == 0, done.stderr
    found = Resolution.model_validate_json(done.stdout)
    assert len(found.medians_ns) == 20
    findings = json.loads(evit_edge("doctor", "--json").stdout)
    assert [row["state"] for row in findings if row["subject"] == "noise floor"] == ["ok"]
