"""The files that are compared, each made in a fresh process and kept in a folder."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal

from .child import Answer, Failed, ask

Tool = Literal["ours", "onnx2tf", "litert-torch"]

IMAGES: Final = 64
TIMEOUT_S: Final = 3600
# One conversion of ours takes less time than the machine's moods.
REPEATS: Final = 3
BASELINE: Final = "onnx2tf_fp32"
# Stands in where onnx2tf cannot convert the eager model.
SECOND_BASELINE: Final = "way_a_fp32"
PACKAGES: Final = ("onnx2tf", "tensorflow", "onnx", "torch", "numpy", "ai-edge-litert")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file of the comparison; `precision` is that of ours it is set against."""

    name: str
    label: str
    tool: Tool
    precision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Files that come out of one process of `python`: of `part`, for `job`."""

    part: str
    job: Answer
    python: str
    versions: dict[str, str]
    entries: tuple[Entry, ...]
    kept: bool = True


@dataclass(slots=True, kw_only=True)
class Made:
    """What came of the entries: costs of those that are there, reasons for those that are not."""

    folder: Path
    # How many the eager model finds among the images: with one alone, any file would agree on the first.
    classes: int
    entries: list[Entry] = field(default_factory=list)
    costs: dict[str, Answer] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        """Where the file of the entry called `name` is."""
        return self.folder / f"{name}.tflite"


PLAIN: Final = (
    Entry(name=BASELINE, label="onnx2tf fp32", tool="onnx2tf", precision="fp32"),
    Entry(name="onnx2tf_fp16", label="onnx2tf fp16", tool="onnx2tf", precision="fp16"),
)
# Of the graph that our other target exports, by onnx2tf and TensorFlow: `--via onnx2tf`.
WAY_A: Final = (
    Entry(name=SECOND_BASELINE, label="onnx2tf, way A, fp32", tool="onnx2tf", precision="fp32"),
    Entry(name="way_a_w8", label="onnx2tf, way A, dynamic", tool="onnx2tf", precision="w8"),
    Entry(name="way_a_int8", label="onnx2tf, way A, int8", tool="onnx2tf", precision="int8"),
)
LITERT: Final = (
    Entry(name="litert_fp32", label="litert-torch fp32", tool="litert-torch", precision="fp32"),
    Entry(name="litert_w8", label="litert-torch w8", tool="litert-torch", precision="w8"),
    Entry(name="litert_dynamic", label="litert-torch dynamic", tool="litert-torch", precision="w8"),
    Entry(name="litert_int8", label="litert-torch int8", tool="litert-torch", precision="int8"),
)


def direct_precisions(model: str) -> list[str]:
    """Those of the target `tflite` that the direct writer has."""
    from evit_edge.converters.conversion import CONVERTERS, plan
    from evit_edge.models.errors import Unsupported
    from evit_edge.models.spec import ModelRequest, find

    spec = find(ModelRequest(name=model, weights="random"))
    found = []
    for precision in CONVERTERS.load("tflite").precisions:
        try:
            plan(spec, "tflite", precision=precision, options={"via": "direct"})
        except Unsupported:
            continue
        found.append(precision)
    return found


def groups(model: str, *, peers: str | None, onnx2tf: bool, versions: dict[str, str]) -> list[Group]:
    """All conversions of `model`; `peers` is the interpreter of their environment, `versions` are theirs."""
    here = {name: importlib.metadata.version(name) for name in PACKAGES if onnx2tf}
    found = []
    for precision in direct_precisions(model):
        label = f"ours {precision}"
        entry = Entry(name=f"ours_{precision}", label=label, tool="ours", precision=precision)
        job = {"kind": "ours", "via": "direct", "precision": precision, "name": entry.name}
        # Quick to make, and what is being worked on: never taken from an earlier run.
        group = Group(part="convert", job=job, python=sys.executable, versions={}, entries=(entry,), kept=False)
        found.append(group)
    if onnx2tf:
        plain = {"kind": "plain"}
        found.append(Group(part="convert", job=plain, python=sys.executable, versions=here, entries=PLAIN))
        for entry in WAY_A:
            job = {"kind": "ours", "via": "onnx2tf", "precision": entry.precision, "name": entry.name}
            found.append(Group(part="convert", job=job, python=sys.executable, versions=here, entries=(entry,)))
    if peers:
        found.append(Group(part="peers", job={"kind": "convert"}, python=peers, versions=versions, entries=LITERT))
    return found


def make(
    model: str, folder: Path, wanted: Sequence[Group], *, calibration: int, again: bool, on_step: Callable[[str], None]
) -> Made:
    """Every file that can be made, in `folder`; those of an earlier run are kept unless `again` or made otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    on_step(f"{model}: the model's own answers")
    common: Answer = {"model": model, "folder": str(folder.resolve()), "images": IMAGES, "calibration": calibration}
    for job in ({"kind": "weigh", "again": again}, {"kind": "prepare"}):
        common |= ask(sys.executable, "convert", {**common, **job}, timeout_s=TIMEOUT_S)
    made = Made(folder=folder, classes=common["classes"])
    for group in wanted:
        labels = ", ".join(entry.label for entry in group.entries)
        on_step(f"{model}: {labels}")
        answer = _made(folder, {**common, **group.job}, group, again=again)
        for entry in group.entries:
            made.entries.append(entry)
            if entry.name in answer["costs"]:
                made.costs[entry.name] = answer["costs"][entry.name]
            else:
                made.missing[entry.name] = answer["errors"].get(entry.name) or answer["errors"]["all"]
    return made


def _made(folder: Path, job: Answer, group: Group, *, again: bool) -> Answer:
    """The answer of the group's process, or an earlier one to the same job with the same versions."""
    record = folder / f"{group.entries[0].name}.json"
    asked: dict[str, Any] = {"job": job, "versions": group.versions}
    if group.kept and not again and record.exists():
        known: Answer = json.loads(record.read_text())
        costs: dict[str, Answer] = known["answer"]["costs"]
        if known["asked"] == asked and all((folder / f"{name}.tflite").exists() for name in costs):
            return {**known["answer"], "costs": {name: {**spent, "earlier": True} for name, spent in costs.items()}}
    try:
        answer = _asked(job, group)
    except Failed as error:
        return {"costs": {}, "errors": {"all": str(error)}}
    answer.setdefault("errors", {})
    if group.kept:
        record.write_text(json.dumps({"asked": asked, "answer": answer}, indent=1))
    return answer


def _asked(job: Answer, group: Group) -> Answer:
    if group.kept:
        return ask(group.python, group.part, job, timeout_s=TIMEOUT_S)
    answers = [ask(group.python, group.part, job, timeout_s=TIMEOUT_S) for _ in range(REPEATS)]
    (name,) = answers[0]["costs"]
    costs = [answer["costs"][name] for answer in answers]
    return {"costs": {name: {key: median(cost[key] for cost in costs) for key in costs[0]}}}
