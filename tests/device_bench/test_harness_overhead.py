"""The benchmark of the timed loop runs, and its figures are those of the loop that trials use."""

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "harness_overhead.py"


def test_the_benchmark_prints_a_ratio_for_single_calls_and_for_blocks() -> None:
    command = [sys.executable, str(SCRIPT), "--turns", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.findall(
        r"^\| (\d\.\d+) \| (\d+) \| (\d\.\d+) \| (\d\.\d+) \| (?:met|missed) \|$", done.stdout, re.MULTILINE
    )
    (single_ms, single_block, *_), (short_ms, short_block, *_) = found
    assert float(single_ms) > 1 > float(short_ms)
    assert int(single_block) == 1 < int(short_block)
    assert all(0.5 < float(ratio) < 2 for row in found for ratio in row[2:])
