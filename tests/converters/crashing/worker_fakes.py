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


def writes_a_wrong_scale(job: dict[str, Any]) -> Any:
    from dataclasses import replace

    from evit_edge.converters.tflite import int8

    quantize = int8.quantize

    def quantized(*arguments: Any, **options: Any) -> Any:
        graph = quantize(*arguments, **options)
        tensor = next(each for each in graph.tensors() if each.name == "stages.2.1.pw2/conv_2d" and each.scales)
        assert tensor.scales is not None
        tensor.scales = replace(tensor.scales, scale=tensor.scales.scale * 16)
        return graph

    int8.quantize = quantized
    return worker.work(job)


if __name__ == "__main__":
    child.serve(globals()[os.environ["WORKER_FAKE"]])
