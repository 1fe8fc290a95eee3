"""Conversion workers that go wrong half-way. Run by name, with this folder on the path."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from evit_edge.converters import child, worker


def killed(job: dict[str, Any]) -> Any:
    Path(job["out"], "model.onnx").write_bytes(b"half a file")
    print("segmentation fault imminent", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def exits(job: dict[str, Any]) -> Any:
    Path(job["out"], "model.onnx").write_bytes(b"half a file")
    sys.exit(0)


def wrong_precision(job: dict[str, Any]) -> Any:
    return {**worker.work(job), "precision_found": "fp32+int8"}


def forgets_to_compress(job: dict[str, Any]) -> Any:
    from evit_edge.converters.tflite import direct

    direct.weights.compress = lambda graph, kind: graph  # type: ignore[attr-defined]
    return worker.work(job)


if __name__ == "__main__":
    child.serve(globals()[os.environ["WORKER_FAKE"]])
