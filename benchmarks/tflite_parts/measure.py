"""What the files compute and how fast they are, in every engine."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from .child import Answer, Failed, ask
from .files import Entry, Made

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHECK_TIMEOUT_S: Final = 600
# Of the time that a file is meant to take in one process; then it gets no more turns.
LIMIT: Final = 4
BASELINES: Final = ("onnx2tf_fp32", "way_a_fp32", "ours_fp32")
AGAIN: Final = "again"
# These owe what the parity gate asks. Random weights exaggerate all rounding, so that quantized files owe no more than
# to be about the model: those that an engine computes wrongly are around 0.
EXACT: Final = ("fp32", "fp16")
LEAST_MIDDLE: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An interpreter's package in one environment, and its version there."""

    package: str
    python: str
    version: str

    @property
    def label(self) -> str:
        """What people call it."""
        names = {"ai_edge_litert": "LiteRT", "tflite_runtime": "tflite-runtime"}
        return f"{names[self.package]} {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a file does in an engine: parity with the eager model over all images, and what XNNPACK runs of it.

    `worst` and `middle` are cosines, the lowest and the median image's; `top1` is a share of the images; `wrong` says
    that this is more than rounding.
    """

    worst: float
    middle: float
    top1: float
    wrong: bool
    nodes: int
    nodes_taken: int | None
    partitions: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What one fresh process measures: a model's files in an engine with a number of threads."""

    model: str
    engine: Engine
    threads: int


def engines(peers: str | None, on_step: Callable[[str], None]) -> list[Engine]:
    """Those that are there, the same version once."""
    wanted = [("ai_edge_litert", sys.executable), ("tflite_runtime", sys.executable)]
    if peers:
        wanted.insert(1, ("ai_edge_litert", peers))
    found: list[Engine] = []
    for package, python in wanted:
        try:
            answer = ask(python, "trial", {"kind": "version", "package": package}, timeout_s=CHECK_TIMEOUT_S)
        except Failed as error:
            on_step(f"without {package} of {python}: {error}")
            continue
        engine = Engine(package=package, python=python, version=answer["version"])
        if engine.label not in [known.label for known in found]:
            found.append(engine)
    return found


def prove(made: Made, entry: Entry, engine: Engine) -> Proof:
    """Raises `Failed` where the engine does not open or run the file."""
    import numpy as np

    from evit_edge.converters.parity import THRESHOLDS
    from evit_edge.device_bench.tflite_placement import placement

    out = made.folder / "found.npy"
    job = {
        "kind": "answers",
        "package": engine.package,
        "path": str(made.path(entry.name)),
        "images": str(made.folder / "images.npy"),
        "out": str(out),
    }
    answer = ask(engine.python, "trial", job, timeout_s=CHECK_TIMEOUT_S)
    # The nodes were listed in the other environment, which has no code of ours to count them.
    listed = SimpleNamespace(_get_ops_details=lambda: answer["nodes"])
    taken = placement(listed, delegate="XNNPACK")
    assert taken is not None
    expected, found = np.load(made.folder / "answers.npy"), np.load(out)
    cosines, same = compared(expected, found)
    thresholds = {str(precision): threshold.cosine for precision, threshold in THRESHOLDS.items() if precision in EXACT}
    owed = thresholds.get(entry.precision, -1.0)
    return Proof(
        worst=min(cosines),
        middle=median(cosines),
        top1=same,
        wrong=min(cosines) < owed or median(cosines) < LEAST_MIDDLE,
        nodes=taken.nodes,
        nodes_taken=taken.nodes_taken,
        partitions=taken.partitions,
    )


def compared(expected: NDArray[Any], found: NDArray[Any]) -> tuple[list[float], float]:
    """The cosine of each image's answers, -1 where one is not finite, and the share of images of the same top-1."""
    import numpy as np

    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
        cosines = np.nan_to_num((expected * found).sum(axis=1, dtype=np.float64) / lengths, nan=-1, posinf=-1)
    return [float(cosine) for cosine in cosines], float((expected.argmax(axis=1) == found.argmax(axis=1)).mean())


def baseline_of(names: Sequence[str]) -> str | None:
    """What the others are divided by: onnx2tf's float32 file, or what stands in for it."""
    return next((name for name in BASELINES if name in names), None)


def trial(setting: Setting, made: Made, names: Sequence[str], *, seconds: float, seed: int) -> Answer:
    """One fresh process: nanoseconds by name, with `AGAIN` for the baseline's file a second time; raises `Failed`."""
    baseline = baseline_of(names)
    labels = [*names, *([AGAIN] if baseline else [])]
    paths = [str(made.path(baseline if name == AGAIN and baseline else name)) for name in labels]
    job = {
        "kind": "time",
        "package": setting.engine.package,
        "threads": setting.threads,
        "paths": paths,
        "images": str(made.folder / "images.npy"),
        "seconds": seconds,
        "limit_s": LIMIT * seconds,
        "seed": seed,
    }
    answer = ask(setting.engine.python, "trial", job, timeout_s=60 + 3 * LIMIT * seconds * len(paths))
    return {
        "medians_ns": dict(zip(labels, answer["medians_ns"], strict=True)),
        "calls": dict(zip(labels, answer["calls"], strict=True)),
        "cut": [label for label, cut in zip(labels, answer["cut"], strict=True) if cut],
        "load_average": answer["load_average"],
    }


def order(settings: Sequence[Setting], *, processes: int, seed: int) -> list[tuple[Setting, int]]:
    """Every setting once a round, in a random order of its own: no setting has the quiet hour for itself."""
    rng = random.Random(seed)
    return [
        (setting, seed + number) for number in range(processes) for setting in rng.sample(list(settings), len(settings))
    ]


def ratio(trials: Sequence[Answer], name: str, against: str) -> Answer | None:
    """The median over processes of one file's time over another's in the same process, with its exact interval."""
    from evit_edge.device_bench.statistics import median_interval

    ratios = [
        trial["medians_ns"][name] / trial["medians_ns"][against]
        for trial in trials
        if name in trial["medians_ns"] and against in trial["medians_ns"]
    ]
    if not ratios:
        return None
    interval = median_interval(ratios)
    return {"median": median(ratios), "interval": interval and asdict(interval), "processes": len(ratios)}


def histogram(path: Path) -> dict[str, int]:
    """How often each operator stands in the file.

    Not by our own reader, which refuses files that keep weights behind the flatbuffer, as ai-edge-quantizer's do.
    """
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    graph = model.Subgraphs(0)
    codes = [model.OperatorCodes(graph.Operators(index).OpcodeIndex()) for index in range(graph.OperatorsLength())]
    return dict(Counter(names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in codes))
