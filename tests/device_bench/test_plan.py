"""All cells take turns, a failure costs only its own cell, and a real run has every figure."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evit_edge.converters.artifact import Artifact
from evit_edge.device_bench import plan
from evit_edge.device_bench.device import Device, DeviceInfo, Finished, connect
from evit_edge.device_bench.job import MemoryJob, TimeJob, ask
from evit_edge.device_bench.journal import Journal
from evit_edge.device_bench.plan import Step
from evit_edge.device_bench.record import Failure, Memory, Timing
from evit_edge.device_bench.report import summary
from evit_edge.device_bench.result import Result, append, read
from evit_edge.models.errors import DeviceFailed, UnknownName, Unsupported

from .conftest import MakeArtifact, MakeResult, interrupted_when, make_trial, processes_naming


class FakeDevice:
    """Answers every job at once; `broken` names the artifact folders whose trials fail from the second on."""

    python = "python"

    def __init__(self, info: DeviceInfo, *, broken: Sequence[str] = ()) -> None:
        self.jobs: list[tuple[str, str, str, int, int]] = []
        self._info = info
        self._broken = broken

    def info(self) -> DeviceInfo:
        return self._info

    def push(self, source: Path) -> str:
        return str(source)

    def pull(self, source: str, target: Path) -> None:
        pass

    def interrupt(self) -> None:
        pass

    def run(self, command: Sequence[str], *, timeout_s: float) -> Finished:
        question, reply = command[-2:]
        job = json.loads(Path(question).read_text())
        name = Path(job["artifact"]).name
        earlier = [done for done in self.jobs if done[1] == name]
        self.jobs.append((job["mode"], name, job["runtime"], job["threads"], job["batch"]))
        answer: Timing | Memory = (
            Memory(before_bytes=1, peak_bytes=2) if job["mode"] == "memory" else make_trial().timing
        )
        said: dict[str, object] = {"answer": answer.model_dump()}
        if name in self._broken and earlier:
            said = {"failure": Failure(kind="BadArtifact", message="gone").model_dump()}
        Path(reply).write_text(json.dumps(said))
        return Finished(returncode=0, tail="")


@pytest.fixture
def info(make_result: MakeResult) -> DeviceInfo:
    found: Result = make_result()
    return found.device


def planned(cells: Sequence[plan.Cell], **changes: Any) -> plan.Plan:
    known: dict[str, Any] = {"effort": "quick", "seed": 3, "command": ["evit-edge", "bench"]}
    return plan.Plan(cells=cells, **known | changes)


def run(cells: Sequence[plan.Cell], device: Device, **changes: Any) -> list[Result]:
    running = {name: changes.pop(name) for name in ("on_step", "timeout_s", "journal") if name in changes}
    return plan.run(planned(cells, **changes), device, **running)


def test_every_combination_is_a_cell(make_artifact: MakeArtifact) -> None:
    artifacts = [make_artifact("a"), make_artifact("b")]
    found = plan.cells(artifacts, threads=[1, 2], batches=[1, 16])
    assert len(found) == 8
    assert {cell.runtime for cell in found} == {"onnxruntime"}
    assert not any(cell.original for cell in found)


def test_the_original_of_two_artifacts_is_one_cell(make_artifact: MakeArtifact) -> None:
    artifacts = [make_artifact("a"), make_artifact("b", batch=1)]
    found = plan.cells(artifacts, runtimes=["torch", "onnxruntime"])
    assert [(cell.runtime, cell.original) for cell in found] == [
        ("torch", True),
        ("onnxruntime", False),
        ("onnxruntime", False),
    ]


def test_an_artifact_named_twice_is_one_cell(make_artifact: MakeArtifact) -> None:
    artifact = make_artifact()
    assert len(plan.cells([artifact, artifact])) == 1


def test_a_runtime_that_does_not_exist_or_opens_nothing_stops_before_measuring(make_artifact: MakeArtifact) -> None:
    with pytest.raises(UnknownName, match="onnxruntime"):
        plan.cells([make_artifact("a")], runtimes=["onnxrt"])
    with pytest.raises(Unsupported, match="no runtime here opens punchcard"):
        plan.cells([make_artifact("b", target="punchcard")], runtimes=["onnxruntime"])


def test_a_round_has_every_cell_once_and_memory_comes_last(make_artifact: MakeArtifact, info: DeviceInfo) -> None:
    device = FakeDevice(info)
    artifacts = [make_artifact(name) for name in "abc"]
    results = run(plan.cells(artifacts), device)
    assert [job[0] for job in device.jobs] == ["time"] * 18 + ["memory"] * 3
    turns = [tuple(job[1] for job in device.jobs[start : start + 3]) for start in range(0, 18, 3)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)
    assert len(set(turns)) > 1
    for result, name in zip(results, "abc", strict=True):
        assert [trial.round for trial in result.trials] == list(range(6))
        assert [turns[trial.round][trial.order] for trial in result.trials] == [name] * 6
        assert result.status == "ok"


def test_the_seed_decides_the_order(make_artifact: MakeArtifact, info: DeviceInfo) -> None:
    cells = plan.cells([make_artifact(name) for name in "abcd"])
    devices = [FakeDevice(info) for _ in range(3)]
    for device, seed in zip(devices, (1, 1, 2), strict=True):
        run(cells, device, seed=seed)
    assert devices[0].jobs == devices[1].jobs
    assert devices[0].jobs != devices[2].jobs


def test_a_cell_that_fails_keeps_its_trials_and_the_others_go_on(make_artifact: MakeArtifact, info: DeviceInfo) -> None:
    device = FakeDevice(info, broken=["b"])
    good, bad = run(plan.cells([make_artifact("a"), make_artifact("b")]), device)
    assert (good.status, len(good.trials)) == ("ok", 6)
    assert (bad.status, len(bad.trials), bad.memory) == ("failed", 1, None)
    assert bad.failure == Failure(kind="BadArtifact", message="gone")
    assert sum(job[1] == "b" for job in device.jobs) == 2


def test_a_run_goes_on_where_its_journal_ends(make_artifact: MakeArtifact, info: DeviceInfo) -> None:
    cells = plan.cells([make_artifact("a"), make_artifact("b")])
    whole = Journal(plan.begun(planned(cells), FakeDevice(info)))
    wanted = run(cells, FakeDevice(info), journal=whole)
    for count in (0, 5, 13, 14):
        device = FakeDevice(info)
        begun = Journal(whole.header, entries=whole.entries[:count])
        found = run(cells, device, journal=begun)
        assert len(device.jobs) == 14 - count
        assert [each.model_copy(update={"seconds": 0}) for each in begun.entries] == [
            each.model_copy(update={"seconds": 0}) for each in whole.entries
        ]
        assert [result.session for result in found] == [result.session for result in wanted]


def test_a_plan_is_the_same_one_by_what_is_measured(make_artifact: MakeArtifact) -> None:
    cells = plan.cells([make_artifact("a"), make_artifact("b", batch=1)])
    first = planned(cells)
    assert first.digest == planned(cells, command=["other"]).digest
    others = [planned(cells[:1]), planned(cells, seed=4), planned(cells, effort="default"), planned(cells, energy=True)]
    assert len({first.digest, *(other.digest for other in others)}) == 5


def test_progress_names_what_comes_next(make_artifact: MakeArtifact, info: DeviceInfo) -> None:
    cells = plan.cells([make_artifact("a"), make_artifact("b")])
    steps: list[Step] = []
    run(cells, FakeDevice(info), on_step=steps.append)
    assert [step.done for step in steps] == list(range(14))
    assert plan.least_processes(planned(cells)) == 8
    assert steps[0].label == "linear in onnxruntime, round 1"
    assert steps[-1].label == "linear in onnxruntime, memory"


def test_an_effort_that_does_not_exist_is_answered_with_the_nearest(
    make_artifact: MakeArtifact, info: DeviceInfo
) -> None:
    with pytest.raises(UnknownName, match="did you mean quick"):
        run(plan.cells([make_artifact()]), FakeDevice(info), effort="quik")


def test_a_real_run_has_every_figure_and_a_row_for_what_failed(make_artifact: MakeArtifact, tmp_path: Path) -> None:
    good, garbage, fixed = (
        make_artifact(),
        make_artifact("garbage", payload=b"no model"),
        make_artifact("fixed", batch=1),
    )
    changed = make_artifact("changed")
    cells = [*plan.cells([good, garbage, changed, fixed], batches=[2])]
    changed.payload.unlink()
    for result in run(cells, connect("local")):
        append(tmp_path / "results.jsonl", result)
    whole, *failed = read(tmp_path / "results.jsonl")
    for trial in whole.trials:
        timing = trial.timing
        assert timing.inputs == "noise"
        assert timing.block > 1
        assert len(timing.samples_ns) >= 20
        assert sum(timing.samples_ns) > 2.5e8
        assert np.median(timing.samples_ns) > 5e5
        assert timing.load_ns > 0
        assert timing.first_ns > 0
        assert len(timing.warm_up_ns) >= 3
    assert whole.artifact_digest == good.digest
    assert whole.command == ("evit-edge", "bench")
    (row, *_) = summary.rows([whole])
    assert row.latency_low_ms is not None
    assert row.latency_high_ms is not None
    assert 0 < row.latency_low_ms <= row.latency_high_ms < 1
    assert (row.processes, row.batch, row.status) == (6, 2, "ok")
    reasons = [result.failure.message if result.failure else "" for result in failed]
    assert "onnxruntime does not open" in reasons[0]
    assert "is missing" in reasons[1]
    assert reasons[2] == "batch fixed at 1"
    assert {result.trials for result in failed} == {()}


def heavy(artifact: Artifact, *, mib: int) -> Artifact:
    """The same artifact with a model of `mib` MiB of weights, that takes any input of 256 numbers."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from evit_edge.converters.artifact import TensorRecord, digests_of, write_manifest
    from evit_edge.converters.artifact import read as read_artifact

    weights = np.random.default_rng(0).standard_normal((256, mib * 1024), np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weights"], ["y"])],
        "heavy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", 256))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("n", mib * 1024))],
        [numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), artifact.payload)
    changes = {
        "inputs": (TensorRecord(name="x", shape=(None, 256), dtype="float32"),),
        "outputs": (TensorRecord(name="y", shape=(None, mib * 1024), dtype="float32"),),
        "files": digests_of(artifact.folder),
    }
    write_manifest(artifact.folder, artifact.manifest.model_copy(update=changes))
    return read_artifact(artifact.folder)


def test_memory_is_what_the_model_adds(make_artifact: MakeArtifact) -> None:
    added = []
    for mib in (16, 80):
        artifact = heavy(make_artifact(str(mib)), mib=mib)
        job = MemoryJob(artifact=str(artifact.folder), runtime="onnxruntime", threads=1, batch=1, seed=0)
        memory = ask(connect("local"), job, answer=Memory, timeout_s=60)
        assert memory.before_bytes > 20 * 2**20
        added.append(memory.added_bytes / 2**20)
    # Engines may keep a second, packed copy of the weights.
    assert 64 <= added[1] - added[0] <= 4 * 64


def test_a_model_slower_than_a_millisecond_is_timed_call_by_call(make_artifact: MakeArtifact) -> None:
    artifact = heavy(make_artifact(), mib=64)
    job = TimeJob(artifact=str(artifact.folder), runtime="onnxruntime", threads=1, batch=1, seed=0, effort="quick")
    timing = ask(connect("local"), job, answer=Timing, timeout_s=60)
    assert timing.block == 1
    assert np.median(timing.samples_ns) > 1e6


def test_an_interruption_ends_the_trial_and_is_passed_on(make_artifact: MakeArtifact, scratch: Path) -> None:
    cells = plan.cells([make_artifact()])
    with interrupted_when(lambda: bool(processes_naming(scratch))), pytest.raises(KeyboardInterrupt):
        run(cells, connect("local"), effort="rigorous")
    assert processes_naming(scratch) == []


def test_a_trial_that_takes_too_long_is_a_row_with_its_reason(make_artifact: MakeArtifact) -> None:
    (result,) = run(plan.cells([make_artifact()]), connect("local"), timeout_s=0.1)
    assert result.failure
    assert isinstance(result.failure.error(), DeviceFailed)
    assert "no answer within 0.1 s" in result.failure.message
