"""Int8, mixed and w8 of every target beside the plain recipes that a user would run: accuracy, size, speed, memory.

    .venv/bin/python benchmarks/int8.py --weights FILE --data validation.npz --calibrate calibration.npz
    .venv/bin/python benchmarks/int8.py --random m0,m5 --precisions int8
    .venv/bin/python benchmarks/int8.py --memory

Accuracy needs trained weights of --model, labelled images (--data) and others to calibrate with (--calibrate). For each
target: our precisions, and what others write from the same eager model and the same calibration images:

- ONNX: `quantize_static` of ONNX Runtime after its `quant_pre_process`, at its defaults, and as tutorials have it;
- TFLite: `onnx2tf -oiqt` with one image and with 20 (it writes another model when it is given more than one), and its
  float file with 20;
- Core ML: coremltools' `linear_quantize_weights` at its defaults.

ONNX Runtime and LiteRT (XNNPACK) answer one image at a time on one thread; Core ML's files run in the reference
executor, ours with 32 images at a time. Everything is compared with the eager float32 original on the same images.

--random takes models with random weights at 224 px, ours alone without mixed: SQNR on the model's own sample images
after calibrating on its others, size, and speed.

Speed: every model and target is measured in --processes fresh processes, all in turns of random order. One process
opens all files and times them round by round in random order; a file counts with its median, its ratio is that to our
float32 file in the same process, and the table has the median over processes with its exact interval. The float32 file
runs a second time as another one (A/A): what its ratio is off 1, others' can be too.

--memory converts M0 to int8 by the Python API, for each target and each way to choose ranges, with 20 and with 2,000
images of 224 px, each in a fresh process, and has the peak resident memory of what that started.

Files take a fresh process each and stay in --work (in the user's cache by default) until the code or the job changes:
whoever interrupts loses the one that is being made. --again makes them again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.int8_parts import files, measure, memory, tables
else:  # a script finds what lies beside it
    from int8_parts import files, measure, memory, tables

FOLDER = Path(__file__).resolve().parent
TARGETS = ("onnx", "tflite", "coreml")
PRECISIONS = ("w8", "int8", "mixed")
SAMPLES = 32


def models(arguments: argparse.Namespace) -> dict[str, tuple[files.Images, list[files.Entry]]]:
    """What is compared, by the name of a folder: images, and files."""
    from evit_edge.converters import labelled
    from evit_edge.models.spec import ModelRequest

    found = {}
    if arguments.weights:
        labels = labelled.read(arguments.data, limit=arguments.limit)
        trained = files.Images(
            request=ModelRequest(name=arguments.model, weights=str(arguments.weights.absolute())),
            calibrate=arguments.calibrate,
            calibration_images=arguments.calibration,
            data=arguments.data,
            data_sha256=labels.sha256,
            count=len(labels.labels),
        )
        found["trained"] = trained, files.entries(arguments.targets, arguments.precisions, plain=arguments.plain)
    for short in arguments.random:
        own = files.Images(
            request=ModelRequest(name=f"efficientvit_{short}", weights="random"),
            calibrate=None,
            calibration_images=arguments.calibration,
            data=None,
            data_sha256="samples",
            count=SAMPLES,
        )
        precisions = [precision for precision in arguments.precisions if precision != "mixed"]
        found[f"random_{short}"] = own, files.entries(arguments.targets, precisions, plain=False)
    return found


def judged(
    images: files.Images, wanted: Sequence[files.Entry], folder: Path, *, again: bool, note: Any
) -> dict[str, Any]:
    """One model's files, made and asked."""
    import numpy as np

    from evit_edge.converters import labelled
    from evit_edge.models.spec import find

    spec = find(images.request)
    labels = None
    if images.data:
        read = labelled.read(images.data, limit=images.count)
        labels = read.classes(spec.outputs[0].shape[-1] or 0, spec.labels)
    note(f"{spec.name}: the original's answers to {images.count} images")
    with tempfile.TemporaryDirectory(prefix="evit-edge-") as scratch:
        original = measure.answers(images, None, Path(scratch, "original.npy"), batch=32)
    rows = []
    for entry in wanted:
        row = {"entry": asdict(entry), **files.make(entry, images, folder, again=again, on_step=note)}
        if "missing" not in row:
            note(f"{spec.name}, {entry.target}: {entry.label}, {images.count} images")
            row |= measure.judge(entry, images, folder, original=original, labels=labels)
        rows.append(row)
    own = measure.compared(original, original, labels)
    about = {"model": spec.name, "weights": spec.weights_name, "size": spec.preprocess.size, "count": images.count}
    seen = {
        "classes_seen": len(np.unique(original.argmax(axis=1))),
        "constant_db": measure.constant_db(original),
    }
    return {"original": {**own, **about, **seen}, "files": rows, "trials": {}}


def time_all(
    record: dict[str, Any],
    known: Mapping[str, tuple[files.Images, Sequence[files.Entry]]],
    arguments: argparse.Namespace,
) -> None:
    from evit_edge.edge import show

    settings = {}
    for name, (images, _) in known.items():
        for target in measure.TIMED:
            rows = [row["entry"] for row in record["models"][name]["files"] if "missing" not in row]
            paths = {
                entry["name"]: arguments.work / name / files.Entry(**entry).file
                for entry in rows
                if entry["target"] == target
            }
            if files.BASE in paths:
                settings[name, target] = images, paths
    show.note(f"{len(settings) * arguments.processes} processes of timing")
    with show.counting(False, len(settings) * arguments.processes) as advance:
        found = measure.trials(
            settings, processes=arguments.processes, seconds=arguments.seconds, seed=arguments.seed, on_step=advance
        )
    for (name, target), trials in found.items():
        record["models"][name]["trials"][target] = trials


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    from evit_edge.converters import histogram
    from evit_edge.device_bench.fingerprint import this_machine
    from evit_edge.edge import show

    known = models(arguments)
    machine = this_machine("local").model_dump(mode="json")
    record: dict[str, Any] = {"command": sys.argv, "machine": machine, "models": {}, "memory": []}
    for name, (images, wanted) in known.items():
        record["models"][name] = judged(images, wanted, arguments.work / name, again=arguments.again, note=show.note)
    if arguments.memory:
        record["memory"] = memory.measure(arguments.targets, histogram.NAMES, on_step=show.note)
    if known and arguments.processes:
        time_all(record, known, arguments)
    return record


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    def listed(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="efficientvit_m0", help="what --weights are of")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="trained weights; needs --data and --calibrate")
    parser.add_argument("--data", type=Path, help="labelled images: a folder of class folders, or an .npz")
    parser.add_argument("--calibrate", type=Path, help="images to calibrate with: a folder, or an .npz")
    parser.add_argument("--random", type=listed, default=[], metavar="m0,m1,…", help="models with random weights")
    parser.add_argument("--memory", action="store_true", help="what calibrating costs in memory (takes an hour)")
    parser.add_argument("--targets", type=listed, default=list(TARGETS))
    parser.add_argument("--precisions", type=listed, default=list(PRECISIONS), help="beside the float ones")
    parser.add_argument("--no-plain", dest="plain", action="store_false", help="leave the plain recipes out")
    parser.add_argument("--calibration", type=int, default=128, help="images to calibrate with")
    parser.add_argument("--limit", type=int, help="of the labelled images, the first so many")
    parser.add_argument("--processes", type=int, default=8, help="for each model and target; 0: no timing")
    parser.add_argument("--seconds", type=float, default=0.3, help="for each file in each process")
    parser.add_argument("--seed", type=int, default=0, help="of the orders")
    parser.add_argument("--work", type=Path, help="where the files are made and kept")
    parser.add_argument("--again", action="store_true", help="convert again what an earlier run left")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was found")
    arguments = parser.parse_args(words)
    if arguments.weights and not (arguments.data and arguments.calibrate):
        parser.error("--weights needs --data and --calibrate")
    if not (arguments.weights or arguments.random or arguments.memory):
        parser.error("nothing to measure: give --weights, --random or --memory")
    return arguments


def main() -> None:
    from evit_edge.edge import show
    from evit_edge.models.download import cache_folder
    from evit_edge.models.errors import EdgeError

    arguments = parsed()
    arguments.work = arguments.work or cache_folder() / "benchmarks" / "int8"
    # Child processes find the parts by it.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        record = run(arguments)
    except KeyboardInterrupt:
        show.note(f"interrupted: the files that are done stay in {arguments.work}")
        sys.exit(130)
    except EdgeError as error:
        show.error(error)
        sys.exit(error.exit_code)
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1))
    tables.show(record)


if __name__ == "__main__":
    main()
