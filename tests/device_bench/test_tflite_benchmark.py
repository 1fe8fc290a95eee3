"""The benchmark of TFLite files runs from end to end, and prints what it found."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "tflite.py"


@pytest.mark.slow
def test_a_quick_run_proves_and_times_our_own_files(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    command = [sys.executable, str(SCRIPT), "--quick", "--work", str(tmp_path), "--json", str(found)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=True)
    record = json.loads(found.read_text())
    model = record["models"]["efficientvit_m0"]
    labels = [entry["label"] for entry in model["entries"]]
    assert "ours fp32" in labels
    assert not model["missing"]
    for engine in record["engines"]:
        assert not any(proof["wrong"] for proof in model["proofs"][engine].values())
        trials = model["trials"][engine]["1"]
        assert len(trials) == 2
        assert all(0.3 < trial["medians_ns"]["again"] / trial["medians_ns"]["ours_fp32"] < 3 for trial in trials)
        assert re.search(rf"efficientvit_m0: {re.escape(engine)}, batch 1", done.stdout)
    for label in labels:
        assert re.search(rf"^ {label} +\d+\.\d{{3}} +\d\.\d{{3}} ", done.stdout, re.MULTILINE)
    assert re.search(r"fp32: operators +≤ 433 +\d+ met", done.stdout)
    assert "ours fp32" in done.stderr
