"""Options that several commands share, or that need many words, with what `--help` prints for them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer


def counts(text: str, option: str) -> list[int]:
    """`1,2,4` as numbers, each once."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise typer.BadParameter(f"{text!r} is not a list of numbers such as 1,2,4", param_hint=option)
    return list(dict.fromkeys(found))


def _share(text: str) -> float:
    """`90%` or `0.9` as 0.9."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%?)\s*", text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a share such as 90%")
    return float(found[1]) / (100 if found[2] else 1)


def _for_phones(path: Path | None) -> Path | None:
    """The tool is looked for in the environment, where a run file's devices find it too."""
    from ..device_bench.adb import binary

    if path:
        os.environ[binary.VARIABLE] = str(path.resolve())
    return path


Artifacts = Annotated[list[Path], typer.Argument(metavar="ARTIFACT…", help="Folders that `convert` wrote.")]
Json = Annotated[bool, typer.Option("--json", help="Pure JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="On failure, also what the failing tool printed.")]
Effort = Annotated[
    str,
    typer.Option(
        help="quick, default or rigorous: at least 3, 10 or 30 processes a row, and more (up to 6, 40 or 120) until "
        "the interval is within 5, 2 or 1 %."
    ),
]
Threads = Annotated[str, typer.Option(help="Thread counts, as 1,2,4.")]
Batches = Annotated[str, typer.Option(help="Batch sizes, as 1,16.")]
Device = Annotated[
    str,
    typer.Option(help="Where to measure: local, ssh:HOST as `ssh HOST` reaches it, or adb:SERIAL (adb: the only one)."),
]
BenchmarkBinary = Annotated[
    Path | None,
    typer.Option(
        callback=_for_phones,
        metavar="FILE",
        help="Android: TFLite's benchmark_model for the phone; or $EVIT_EDGE_BENCHMARK_BINARY.",
    ),
]
Runtimes = Annotated[
    list[str] | None,
    typer.Option(help="Give it again for another; torch is the original model. The target's own if not given."),
]
Energy = Annotated[bool, typer.Option("--energy", help="Count joules too, where the machine can.")]
Sustained = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", min=1, help="Then load each row so long; 600 shows throttling."),
]
CoolDown = Annotated[
    float, typer.Option(metavar="SECONDS", min=0, help="Wait so long at most for a hot device, before each process.")
]
StrictPlacement = Annotated[
    bool, typer.Option("--strict-placement", help="Fail rows whose delegate leaves a part of the model to others.")
]
Results = Annotated[Path, typer.Option("--out", help="Raw results are added to this file, a line a row.")]
RESULTS = Path("results.jsonl")
FailAbove = Annotated[
    float | None,
    typer.Option(parser=_share, metavar="SHARE", help="Exit with 8 if it is slower by more, such as 5%, twice over."),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn at random.")]
Precision = Annotated[
    str | None,
    typer.Option(help="fp32, fp16, w8, int8, mixed, w8a16, pal8, pal6 or pal4; each target says which it has."),
]
Weights = Annotated[
    str | None, typer.Option(help="imagenet (default, downloaded), demo, random, or a checkpoint file.")
]
ImgSize = Annotated[int | None, typer.Option(help="Side of the input in pixels; 224, or what the weights say.")]
Via = Annotated[
    str | None, typer.Option(help="TFLite: direct, onnx2tf, or auto (default), which is direct where that can.")
]
Io = Annotated[str | None, typer.Option(help="TFLite: layout of the images, nhwc (default) or nchw.")]
Input = Annotated[
    str | None,
    typer.Option(
        help="TFLite int8: inputs and outputs as float (default), int8 or uint8. "
        "Core ML: tensor (default), or image, which the model normalises itself."
    ),
]
Output = Annotated[
    str | None, typer.Option(help="Core ML: logits (default), or classifier: a label and its probabilities.")
]
Ios = Annotated[
    str | None,
    typer.Option(
        help="Core ML: the oldest system that has to run it, iOS15, iOS16, iOS17, iOS18 or iOS26; "
        "the oldest that can if not given."
    ),
]
Host = Annotated[
    str | None,
    typer.Option(help="ONNX int8: the CPU that will run it, x86-avx2, x86-vnni, arm64, or auto (default): this one."),
]
Calibrate = Annotated[
    Path | None,
    typer.Option(help="Images for int8: a folder, or .npz with `images`; the model's own samples if not given."),
]
CalibrationMethod = Annotated[
    str | None,
    typer.Option(help="How int8 ranges follow from them: minmax (default), percentile, mse or entropy."),
]
MinInt8Macs = Annotated[
    float | None,
    typer.Option(parser=_share, metavar="SHARE", help="mixed: at least so much of the arithmetic stays int8; 90%."),
]
MaxDrop = Annotated[
    float | None,
    typer.Option(help="mixed: points of accuracy that may be lost at most, by answers that change on the images."),
]
CalibrationImages = Annotated[int | None, typer.Option(help="How many of them at most; 128 if not given.")]
