"""The benchmark of the observer's effect runs, and a machine that others use is told from a calm one."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from evit_edge.converters.artifact import Artifact
from evit_edge.device_bench import validity
from evit_edge.device_bench.result import Result, read

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "observer_effect.py"
# On the CPU that a trial of one thread is bound to.
BURNER = "from evit_edge.device_bench.cores import bind; bind(1)\nwhile True: pass"


@contextmanager
def burners(count: int) -> Iterator[None]:
    processes = [subprocess.Popen([sys.executable, "-c", BURNER]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def benched(folder: Path, out: Path) -> Result:
    command = [sys.executable, "-m", "evit_edge", "bench", str(folder), "--effort", "quick", "--out", str(out)]
    # A row that does not count ends with an exit code of its own.
    subprocess.run(command, capture_output=True, timeout=300, check=False)
    (result,) = read(out)
    return result


def disturbed_share(result: Result) -> float:
    marks = [validity.disturbed(result, trial.timing) for trial in result.trials]
    samples = [mark for each in marks for mark in each or ()]
    return sum(samples) / len(samples)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not bind processes to a CPU")
def test_a_busy_cpu_is_seen_and_marked(demo: Artifact, tmp_path: Path) -> None:
    calm = benched(demo.folder, tmp_path / "calm.jsonl")
    with burners(2):
        busy = benched(demo.folder, tmp_path / "busy.jsonl")
    judged = validity.judge(busy)
    print(f"disturbed: {disturbed_share(calm):.1%} without and {disturbed_share(busy):.1%} with two burners")
    print("\n".join(f"{reason.code} {reason.level}: {reason.detail}" for reason in judged.reasons))
    assert busy.failure is None
    assert judged.level in {"SEMI", "INVALID"}
    (reason,) = (each for each in judged.reasons if each.code == "DISTURBED")
    assert f"{disturbed_share(busy):.1%}" in reason.detail


@pytest.mark.slow
def test_the_benchmark_prints_ratios_beside_those_of_equal_things(demo: Artifact) -> None:
    command = [sys.executable, str(SCRIPT), "--artifact", str(demo.folder), "--rounds", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    (inside_ns,) = re.findall(r"^\| inside a sample, (\d+) ns of 1 ms \|", done.stdout, re.MULTILINE)
    assert 10 < int(inside_ns) < 100_000
    found = re.findall(
        r"^\| (latency|memory), .+ \| (\d\.\d+) \| (\d\.\d+) \| 1 ± 0\.0[15] \| (?:met|missed|open) \|$",
        done.stdout,
        re.MULTILINE,
    )
    assert [kind for kind, *_ in found] == ["latency", "latency", "latency", "memory"]
    assert all(0.2 < float(ratio) < 5 for _, *ratios in found for ratio in ratios)
