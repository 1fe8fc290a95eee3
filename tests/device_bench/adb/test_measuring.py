"""A file is measured on a phone by a stand-in that prints the tool's own format, and the record says what it is."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from evit_edge.converters.artifact import Artifact
from evit_edge.device_bench import plan, validity
from evit_edge.device_bench.job import MemoryJob, ProfileJob, TimeJob, ask
from evit_edge.device_bench.on_adb import AdbDevice
from evit_edge.device_bench.record import Failure, Memory, Placement, Profile, Timing
from evit_edge.device_bench.report import summary, table
from evit_edge.device_bench.result import Result, Trial, read
from evit_edge.models.errors import BadArtifact, DeviceFailed, EdgeError, UnreadableOutput, Unsupported

from ..conftest import MakeArtifact, MakeResult, interrupted_when, wait_until
from ..tflite_models import TENSORS, linear
from .phone import Phone, executable
from .playing import LOG, WHOLE, artifact, device, phone, phone_of_module, tool

__all__ = ["artifact", "device", "phone", "phone_of_module", "tool"]

XNNPACK, CPU, GPU, NNAPI = (f"benchmark_model_{name}" for name in ("xnnpack", "cpu", "gpu", "nnapi"))
PARTLY = (
    "INFO: Explicitly applied GPU delegate, and the model graph will be partially executed by the delegate "
    "w/ 2 delegate kernels.\n"
)
IDLE = "INFO: Though NNAPI delegate is explicitly applied, the model graph will not be executed by the delegate.\n"
REPLACED = (
    "VERBOSE: Replacing 1 out of 2 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 2 partitions for "
    "the whole graph.\n"
)


def job(artifact: Artifact, runtime: str = XNNPACK, **changes: object) -> TimeJob:
    known = {"artifact": str(artifact.folder), "runtime": runtime, "threads": 2, "batch": 1, "seed": 0}
    return TimeJob.model_validate({**known, "effort": "quick", **changes})


def six(timing: Timing) -> tuple[Trial, ...]:
    """Six processes that say the same."""
    return tuple(Trial(round=number, order=0, timing=timing) for number in range(6))


def measured(cells: list[plan.Cell], device: AdbDevice) -> list[Result]:
    wanted = plan.Plan(cells=cells, effort="quick", seed=0, command=["evit-edge", "bench"])
    return plan.run(wanted, device)


def test_a_process_of_the_tool_is_a_trial_with_its_summary(
    device: AdbDevice, phone: Phone, tool: Path, artifact: Artifact
) -> None:
    timing = ask(device, job(artifact), answer=Timing, timeout_s=60)
    assert timing.samples_ns == (11_799_000,)
    assert (timing.load_ns, timing.first_ns, timing.warm_up_ns) == (4_301_000, 16_321_000, (11_940_600,))
    assert (timing.warm_up_converged, timing.block, timing.cpu_ns, timing.switches) == (None, 1, None, None)
    told = timing.summary
    assert told
    assert (told.tool, told.generation, told.inferences, told.warm_ups) == ("benchmark_model", "current", 85, 42)
    assert told.percentiles_ns == {"p5": 11_720_000, "p50": 11_799_000, "p95": 11_931_000}
    assert (told.mean_ns, told.min_ns, told.max_ns, told.std_ns) == (11_811_200, 11_698_000, 12_877_000, 104_000)
    assert timing.placement == Placement(delegate="XNNPACK", nodes_taken=2, nodes=2, partitions=1)
    assert timing.before
    assert timing.before.fixed_performance == "applied"
    assert (timing.before.temperature_c, timing.before.thermal_status, timing.before.battery_c) == (41.5, 0, 32.6)
    (call,) = phone.told("calls").splitlines()
    assert "--num_threads=2 --use_xnnpack=true --num_runs=20 --min_secs=0.5 --max_secs=3" in call
    assert all(flag in call for flag in told.arguments)


@pytest.mark.parametrize(
    ("runtime", "flags"),
    [
        (CPU, ["--use_xnnpack=false"]),
        (GPU, ["--use_xnnpack=false", "--use_gpu=true", "--gpu_precision_loss_allowed=false"]),
        (NNAPI, ["--use_xnnpack=false", "--use_nnapi=true", "--nnapi_allow_fp16=false"]),
    ],
)
def test_each_delegate_is_asked_for_by_its_flags(
    device: AdbDevice, phone: Phone, tool: Path, artifact: Artifact, runtime: str, flags: list[str]
) -> None:
    phone.system("says", LOG.format(delegate=WHOLE.format(runtime.rpartition("_")[2].upper())))
    timing = ask(device, job(artifact, runtime), answer=Timing, timeout_s=60)
    assert timing.summary
    assert set(flags) <= set(timing.summary.arguments)


@pytest.mark.parametrize(
    ("runtime", "delegate", "complaint", "expected", "level"),
    [
        (NNAPI, IDLE, "", Placement(delegate="NNAPI", nodes_taken=0, nodes=2, partitions=0), "INVALID"),
        (GPU, "", "", Placement(delegate="GPU", nodes_taken=0, nodes=2, partitions=0), "INVALID"),
        (GPU, PARTLY, "", Placement(delegate="GPU", nodes_taken=None, nodes=2, partitions=2), "SEMI"),
        (GPU, PARTLY, REPLACED, Placement(delegate="GPU", nodes_taken=1, nodes=2, partitions=2), None),
        (CPU, "", "", Placement(delegate=None, nodes_taken=0, nodes=2, partitions=0), None),
    ],
)
def test_a_delegate_that_did_not_take_the_graph_is_a_fallback(
    device: AdbDevice, phone: Phone, tool: Path, artifact: Artifact,
    make_result: MakeResult, runtime: str, delegate: str, complaint: str, expected: Placement, level: str | None,
) -> None:  # fmt: skip
    phone.system("says", LOG.format(delegate=delegate))
    phone.system("complains", complaint)
    timing = ask(device, job(artifact, runtime), answer=Timing, timeout_s=60)
    assert timing.placement == expected
    result = make_result(trials=six(timing), runtime=runtime, target="tflite")
    found = [reason.level for reason in validity.judge(result).reasons if reason.code == "FALLBACK"]
    assert found == ([level] if level else [])
    (row,) = summary.rows([result])
    assert (row.delegate_nodes, row.nodes) == (expected.nodes_taken, 2)
    assert table.narrow([row])


def test_a_mode_that_the_phone_has_not_is_recorded_as_such(
    device: AdbDevice, phone: Phone, tool: Path, artifact: Artifact
) -> None:
    (phone.root / "system/has_mode").unlink()
    timing = ask(device, job(artifact), answer=Timing, timeout_s=60)
    assert timing.after
    assert timing.after.fixed_performance == "unsupported"
    refuses = "echo 'Failed to set FIXED_PERFORMANCE mode' >&2; exit 255"
    (phone.root / "system/bin/cmd").write_text(f"#!/bin/sh\n{refuses}\n")
    timing = ask(device, job(artifact), answer=Timing, timeout_s=60)
    assert timing.after
    assert timing.after.fixed_performance == "failed"


def test_made_up_figures_and_heat_are_invalid(
    device: AdbDevice, phone: Phone, tool: Path, artifact: Artifact, make_result: MakeResult
) -> None:
    battery = (phone.root / "system/dumpsys.battery").read_text()
    phone.system("dumpsys.battery", battery.replace("state:\n", "state:\n  (UPDATES STOPPED -- use 'reset')\n"))
    hot = (phone.root / "system/dumpsys.thermalservice").read_text()
    phone.system("dumpsys.thermalservice", hot.replace("Thermal Status: 0", "Thermal Status: 3"))
    result = make_result(trials=six(ask(device, job(artifact), answer=Timing, timeout_s=60)))
    found = {reason.code: reason.level for reason in validity.judge(result).reasons}
    assert (found["FAKED"], found["THERMAL"]) == ("INVALID", "INVALID")


@pytest.mark.parametrize(
    ("says", "complains", "ends", "kind", "why"),
    [
        ("", "", "0", UnreadableOutput, "one warm-up"),
        (LOG.format(delegate="")[:-400], "", "0", UnreadableOutput, "middle of a line"),
        (
            "WARN: Unconsumed cmdline flags: --use_gpu=true\n" + LOG.format(delegate=""),
            "",
            "0",
            Unsupported,
            "--use_gpu",
        ),
        ("", "ERROR: Failed to load model\n", "1", DeviceFailed, "ended with status 1: ERROR: Failed to load model"),
        (LOG.format(delegate=""), "ERROR: Disallowed CPU fallback detected.\n", "0", Unsupported, "does not take"),
    ],
)
def test_a_tool_that_did_not_do_it_gives_an_error_and_no_figure(
    device: AdbDevice, phone: Phone, tool: Path, artifact: Artifact,
    says: str, complains: str, ends: str, kind: type[EdgeError], why: str,
) -> None:  # fmt: skip
    for name, content in (("says", says), ("complains", complains), ("ends", ends)):
        phone.system(name, content)
    with pytest.raises(kind, match=why):
        ask(device, job(artifact), answer=Timing, timeout_s=60)


def test_what_a_phone_cannot_do_is_refused_before_anything_is_copied(
    device: AdbDevice, phone: Phone, tool: Path, artifact: Artifact, make_artifact: MakeArtifact, tmp_path: Path
) -> None:
    with pytest.raises(Unsupported, match="litert needs a Python on the device") as caught:
        ask(device, job(artifact, "litert"), answer=Timing, timeout_s=60)
    assert XNNPACK in caught.value.hint
    known = {"artifact": str(artifact.folder), "runtime": XNNPACK, "threads": 1, "batch": 1, "seed": 0}
    with pytest.raises(Unsupported, match="gives no profile"):
        ask(device, ProfileJob.model_validate(known), answer=Profile, timeout_s=60)
    with pytest.raises(Unsupported, match="batch fixed at 1"):
        ask(device, job(artifact, batch=2), answer=Timing, timeout_s=60)
    with pytest.raises(Unsupported, match="does not open onnx"):
        ask(device, job(make_artifact()), answer=Timing, timeout_s=60)
    tool.write_bytes(executable(183))
    with pytest.raises(Unsupported, match="built for arm64-v8a, and the device runs x86_64, x86"):
        ask(device, job(artifact), answer=Timing, timeout_s=60)
    assert [path.name for path in (phone.root / "data/local/tmp/evit-edge").rglob("*.tflite")] == []


def test_a_file_of_any_batch_is_measured_with_one(device: AdbDevice, tool: Path, make_tflite: MakeArtifact) -> None:
    free = make_tflite(linear(), **TENSORS)
    assert ask(device, job(free), answer=Timing, timeout_s=60).summary
    with pytest.raises(Unsupported, match="with batch 1"):
        ask(device, job(free, batch=4), answer=Timing, timeout_s=60)


def test_a_damaged_artifact_is_not_sent(device: AdbDevice, tool: Path, artifact: Artifact) -> None:
    artifact.payload.write_bytes(b"other")
    with pytest.raises(BadArtifact):
        ask(device, job(artifact), answer=Timing, timeout_s=60)


def test_a_disk_that_is_full_fails_its_row_alone(
    device: AdbDevice, phone: Phone, tool: Path, artifact: Artifact
) -> None:
    phone.control(room_bytes=100)
    (result,) = measured(plan.cells([artifact], runtimes=[CPU]), device)
    assert isinstance(result.failure, Failure)
    assert (result.failure.kind, result.trials) == ("DeviceFailed", ())
    assert "is full" in result.failure.message


def test_a_deadline_in_a_trial_restores_all(device: AdbDevice, phone: Phone, tool: Path, artifact: Artifact) -> None:
    phone.system("takes", "60")
    with pytest.raises(DeviceFailed, match="no answer within 1 s"):
        ask(device, job(artifact), answer=Timing, timeout_s=1)
    assert phone.told("mode.log").split() == ["true", "false"]


def test_ctrl_c_in_a_trial_restores_all(device: AdbDevice, phone: Phone, tool: Path, artifact: Artifact) -> None:
    phone.system("takes", "60")
    with pytest.raises(KeyboardInterrupt), interrupted_when(lambda: phone.told("calls") != ""):
        ask(device, job(artifact), answer=Timing, timeout_s=60)
    assert phone.told("mode.log").split() == ["true", "false"]


def test_memory_needs_a_tool_that_tells_it(device: AdbDevice, phone: Phone, tool: Path, artifact: Artifact) -> None:
    wanted = MemoryJob(artifact=str(artifact.folder), runtime=CPU, threads=1, batch=1, seed=0)
    assert ask(device, wanted, answer=Memory, timeout_s=60).added_bytes == round(9.5 * 2**20)
    phone.system("says", LOG.format(delegate="").partition("INFO: Memory footprint")[0])
    with pytest.raises(Unsupported, match="does not tell its peak"):
        ask(device, wanted, answer=Memory, timeout_s=60)


def test_the_command_measures_a_phone_and_its_row_says_what_a_summary_cannot(
    phone: Phone, tool: Path, artifact: Artifact, tmp_path: Path
) -> None:
    out = tmp_path / "results.jsonl"
    command = [sys.executable, "-m", "evit_edge", "bench", str(artifact.folder), "--device", "adb", "-q", "--json"]
    command += ["--runtime", "benchmark-model-xnnpack", "--effort", "quick", "--out", str(out)]
    without = {key: value for key, value in os.environ.items() if key != "EVIT_EDGE_BENCHMARK_BINARY"}
    done = subprocess.run(
        [*command, "--benchmark-binary", str(tool)], env=without, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert phone.is_clean()
    (result,) = read(out)
    assert result.device.board == "Google Pixel 8 Pro (husky)"
    assert result.failure is None
    judged = validity.judge(result)
    (reason,) = (each for each in judged.reasons if each.code == "SUMMARY")
    assert reason.level == judged.level == "SEMI"
    assert reason.detail == (
        "benchmark_model tells a summary of each process; percentiles and disturbed calls are unknown"
    )
    (row,) = summary.rows([result])
    assert row.latency_ms == pytest.approx(11.799)
    assert (row.p90_ms, row.p99_ms, row.min_ms, row.disturbed) == (None, None, None, None)
    assert row.samples == 85 * len(result.trials)
    assert row.engine == "benchmark_model, XNNPACK"
    assert result.parity is None
    assert result.memory == Memory(before_bytes=round(4.625 * 2**20), peak_bytes=round(14.125 * 2**20))


def test_ctrl_c_in_the_command_leaves_nothing_there(
    phone: Phone, tool: Path, artifact: Artifact, tmp_path: Path
) -> None:
    phone.system("takes", "60")
    command = [sys.executable, "-m", "evit_edge", "bench", str(artifact.folder), "--device", "adb", "-q"]
    command += ["--runtime", XNNPACK, "--out", str(tmp_path / "results.jsonl")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
    wait_until(lambda: phone.told("calls") != "")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said.decode().strip()) == (130, "interrupted")
    assert phone.is_clean()
    assert phone.told("mode.log").split() == ["true", "false"]
