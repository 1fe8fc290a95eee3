"""A run file is carried out whole, however often it is stopped, and what is wrong with it stops it before it begins."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest

from evit_edge.converters.artifact import Artifact
from evit_edge.device_bench import energy, matrix, runfile
from evit_edge.device_bench.result import Result, read, schema
from evit_edge.models.errors import BadArtifact, DeviceFailed, FileProblem, UnknownName, Unsupported

from .conftest import MakeArtifact, processes_naming, wait_until

MODEL = '[[model]]\nname = "efficientvit_m0"\nweights = "demo"\n'


def write(folder: Path, text: str, *artifacts: Artifact) -> Path:
    path = folder / "run.toml"
    tables = "".join(f"\n[[artifact]]\npath = {json.dumps(str(artifact.folder))}\n" for artifact in artifacts)
    path.write_text(f"{text}\n{tables}")
    return path


def command(path: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "evit_edge", "run", str(path), "--out", str(path.with_suffix("")), *more]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Where temporary files go: nothing may be left there."""
    (tmp_path / "tmp").mkdir()
    return os.environ | {"TMPDIR": str(tmp_path / "tmp")}


def run(path: Path, environment: dict[str, str], *more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(path, *more), env=environment, capture_output=True, text=True, check=False, timeout=300
    )


def whole(path: Path) -> list[Result]:
    folder = path.with_suffix("")
    assert sorted(each.name for each in folder.iterdir()) == ["results.jsonl", "run.toml"]
    for line in (folder / "results.jsonl").read_text().splitlines():
        jsonschema.validate(json.loads(line), schema())
    return read(folder / "results.jsonl")


def assert_each_trial_is_there_once(results: list[Result], *, rounds: int) -> None:
    for each in results:
        assert [trial.round for trial in each.trials] == list(range(rounds))
        assert each.memory is not None
        assert each.failure is None
    for number in range(rounds):
        assert sorted(each.trials[number].order for each in results) == list(range(len(results)))
    assert len({each.session for each in results}) == 1


def test_a_failed_cell_is_a_row_and_the_run_is_not_repeated(
    make_artifact: MakeArtifact, tmp_path: Path, environment: dict[str, str]
) -> None:
    path = write(tmp_path, 'effort = "quick"', make_artifact("a"), make_artifact("garbage", payload=b"no model"))
    first = run(path, environment, "--json")
    assert first.returncode == 3, first.stderr
    good, bad = whole(path)
    assert len(good.trials) == 6
    assert bad.failure
    assert [row["status"] for row in json.loads(first.stdout)] == ["ok", "failed"]
    before = (path.with_suffix("") / "results.jsonl").read_bytes()
    again = run(path, environment, "--json")
    assert (again.returncode, again.stdout) == (3, first.stdout)
    assert "is finished" in again.stderr
    assert (path.with_suffix("") / "results.jsonl").read_bytes() == before
    assert list((tmp_path / "tmp").iterdir()) == []


def killed_over_and_over(path: Path, environment: dict[str, str], *, kills: int, most_s: float) -> int:
    """Start the run and kill it, up to so many times, and let it end at last; returns how often it was killed."""
    rng, done = random.Random(0), 0
    while done < kills and not (path.with_suffix("") / "results.jsonl").exists():
        process = subprocess.Popen(
            command(path, "-q"), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(rng.uniform(0.0, most_s))
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_until(lambda: not processes_naming(path.with_suffix("")))
        done += 1
    last = run(path, environment, "-q")
    assert last.returncode in (0, 7), last.stderr
    assert list((tmp := path.parent / "tmp").iterdir()) == [], tmp
    assert processes_naming(path.parent) == []
    return done


def test_a_run_that_is_killed_at_any_point_has_each_trial_once(
    make_artifact: MakeArtifact, tmp_path: Path, environment: dict[str, str]
) -> None:
    path = write(tmp_path, 'effort = "quick"', make_artifact("a"))
    killed_over_and_over(path, environment, kills=5, most_s=4)
    assert_each_trial_is_there_once(whole(path), rounds=6)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_kills_in_runs_of_thirty_trials(
    make_artifact: MakeArtifact, tmp_path: Path, environment: dict[str, str]
) -> None:
    path = write(tmp_path, 'effort = "quick"', *(make_artifact(name) for name in "abcde"))
    left = 100
    while left:
        left -= killed_over_and_over(path, environment, kills=left, most_s=4)
        assert_each_trial_is_there_once(whole(path), rounds=6)
        shutil.rmtree(path.with_suffix(""))


def test_an_interrupted_run_says_so_and_goes_on(
    make_artifact: MakeArtifact, tmp_path: Path, environment: dict[str, str]
) -> None:
    path = write(tmp_path, 'effort = "quick"', make_artifact("a"))
    journal = path.with_suffix("") / "trials-0.jsonl"
    process = subprocess.Popen(
        command(path), env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_until(lambda: journal.exists() and len(journal.read_text().splitlines()) > 2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert (process.returncode, said.strip()) == (130, "interrupted")
    assert not (path.with_suffix("") / ".scratch").exists()
    kept = len(journal.read_text().splitlines())
    run(path, environment)
    assert kept > 2
    assert_each_trial_is_there_once(whole(path), rounds=6)


def test_two_runs_cannot_have_one_folder_and_another_file_cannot_go_on(
    make_artifact: MakeArtifact, tmp_path: Path, environment: dict[str, str]
) -> None:
    path = write(tmp_path, 'effort = "quick"', make_artifact("a"))
    process = subprocess.Popen(command(path, "-q"), env=environment, stdout=subprocess.DEVNULL)
    wait_until((path.with_suffix("") / "trials-0.jsonl").exists)
    second = run(path, environment)
    process.kill()
    process.wait()
    assert (second.returncode, "is in use" in second.stderr) == (3, True), second.stderr
    path.write_text(path.read_text().replace("quick", "default"))
    other = run(path, environment)
    assert (other.returncode, "another run file" in other.stderr) == (3, True), other.stderr


def check(path: Path) -> matrix.Checked:
    return matrix.check(runfile.read(path))


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ('devices = ["locale"]', UnknownName, "line 1, column 1: unknown device 'locale'"),
        ('devices = ["local", "local:there"]', UnknownName, "line 1, column 1"),
        ('\nruntimes = ["onnxrt"]', UnknownName, "line 2, column 1: unknown runtime"),
        pytest.param(
            "seed = 1\nenergy = true",
            Unsupported,
            "line 2, column 1: energy cannot be measured",
            marks=pytest.mark.skipif(bool(energy.sources()), reason="this machine counts its joules"),
        ),
        ('[[artifact]]\npath = "nowhere"', BadArtifact, "line 2, column 1"),
        ('[[model]]\nname = "efficientvit_m9"\ntargets = ["onnx"]', UnknownName, "line 2, column 1"),
        (MODEL + 'targets = ["onnyx"]', UnknownName, "line 4, column 1: unknown target"),
        (MODEL + 'targets = ["onnx"]\nprecisions = ["pal4"]', Unsupported, "line 1, column 1: onnx has no precision"),
        (MODEL + 'targets = ["onnx"]\noptions = { colour = 1 }', Unsupported, "line 1, column 1"),
        (
            MODEL + 'targets = ["onnx"]\nprecisions = ["int8"]\ncalibrate = "nowhere"',
            FileProblem,
            "line 5, column 1",
        ),
        ('[[model]]\nname = "efficientvit_m0"\nweights = "gone.pth"\ntargets = ["onnx"]', FileProblem, "line 2"),
    ],
)
def test_what_cannot_be_stops_before_anything_is_measured(
    make_artifact: MakeArtifact, tmp_path: Path, text: str, error: type[Exception], says: str
) -> None:
    path = write(tmp_path, text, make_artifact("a"))
    with pytest.raises(error) as caught:
        check(path)
    assert says in str(caught.value)


def test_a_device_that_does_not_answer_stops_it_too(
    make_artifact: MakeArtifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(address: str) -> None:
        raise DeviceFailed(f"{address} does not answer", "switch it on")

    monkeypatch.setattr(matrix, "connect", unreachable)
    path = write(tmp_path, 'seed = 1\ndevices = ["local"]', make_artifact("a"))
    with pytest.raises(DeviceFailed, match="line 2, column 1: local does not answer"):
        check(path)


def test_a_model_is_converted_once_and_what_a_target_lacks_is_a_row(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    path = write(tmp_path, f'effort = "quick"\n{MODEL}targets = ["onnx"]\nprecisions = ["fp32", "pal4"]')
    found = run(path, environment)
    assert found.returncode == 2, found.stderr
    folder = path.with_suffix("")
    made, lacking = read(folder / "results.jsonl")
    assert (made.target, made.precision, len(made.trials)) == ("onnx", "fp32", 6)
    assert made.artifact_path == str(folder / "artifacts" / "efficientvit_m0-demo-224px-onnx-fp32")
    assert lacking.failure
    assert "no precision 'pal4'" in lacking.failure.message
    assert lacking.session == made.session
    shutil.rmtree(folder / "artifacts")
