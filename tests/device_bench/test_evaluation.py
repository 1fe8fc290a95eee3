"""What was answered is not asked again, every image counts once, and what cannot be used is refused by name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from evit_edge.converters import labelled
from evit_edge.converters.artifact import TensorRecord
from evit_edge.converters.labelled import Labelled
from evit_edge.device_bench import ranking
from evit_edge.device_bench.accuracy import wilson
from evit_edge.device_bench.evaluation import Evaluated, cells, evaluate, unfinished
from evit_edge.models.errors import FileProblem, UnknownName, Unsupported

from . import conftest
from .conftest import CLASSES, PREPROCESS, SIZE, WEIGHTS, MakeArtifact, interrupted_when

COUNT = 150
IMAGES = np.random.default_rng(3).integers(0, 256, (COUNT, SIZE, SIZE, 3), dtype=np.uint8)


def saved(folder: Path, *, images: NDArray[np.uint8] = IMAGES, labels: Any = None) -> Labelled:
    """The images, labelled with what the linear model answers unless something else is given."""
    path = folder / "images.npz"
    np.savez(path, images=images, labels=answers(images)[:, 0] if labels is None else labels)
    return labelled.read(path)


def answers(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    feeds = PREPROCESS.value().normalise(images).reshape(len(images), -1)
    return np.argsort(-(feeds @ WEIGHTS), axis=1)[:, :5]


def run(artifact: Any, data: Labelled, file: Path, **options: Any) -> list[Evaluated]:
    return evaluate(cells([artifact], runtimes=None, original=False), data, file, **options)


def only(found: list[Evaluated]) -> Evaluated:
    (row,) = found
    assert row.failure is None, row.failure
    return row


@pytest.mark.parametrize("batch", [None, 1, 4, 7], ids=str)
def test_every_image_is_answered_once_whatever_the_batch(
    make_artifact: MakeArtifact, tmp_path: Path, batch: int | None
) -> None:
    labels = answers(IMAGES)[:, 0]
    labels[:10] = (labels[:10] + 1) % CLASSES
    labels[10:20] = answers(IMAGES)[10:20, 4]
    called: list[object] = []
    row = only(
        run(make_artifact(batch=batch), saved(tmp_path, labels=labels), tmp_path / "a.jsonl", on_chunk=called.append)
    )
    assert row.top1
    assert row.top5
    assert (row.top1.right, row.top1.count) == (COUNT - 20, COUNT)
    assert row.top5.right == int((answers(IMAGES) == labels[:, None]).any(1).sum())
    assert len(called) == math.ceil(COUNT / ranking.CHUNK)
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["start"] for line in lines] == [0, 64, 128]
    np.testing.assert_array_equal([top for line in lines for top in line["top"]], answers(IMAGES))


def test_what_a_model_that_answers_nan_says_is_wrong(
    make_artifact: MakeArtifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = saved(tmp_path)
    monkeypatch.setattr(conftest, "WEIGHTS", np.full_like(WEIGHTS, np.nan))
    row = only(run(make_artifact(), data, tmp_path / "a.jsonl"))
    assert row.top5
    assert row.top5.right == 0


@pytest.mark.parametrize("share_kept", [0.0, 0.3, 0.5, 0.9, 0.999])
def test_a_file_cut_anywhere_is_gone_on_with(make_artifact: MakeArtifact, tmp_path: Path, share_kept: float) -> None:
    artifact, data, file = make_artifact(), saved(tmp_path), tmp_path / "a.jsonl"
    whole = only(run(artifact, data, file))
    content = file.read_bytes()
    file.write_bytes(content[: int(share_kept * len(content))])
    left = file.read_bytes().count(b"\n")
    wanted = cells([artifact], runtimes=None, original=False)
    assert unfinished(wanted, data, file) == (3 - left, 0)
    called: list[object] = []
    again = only(run(artifact, data, file, on_chunk=called.append))
    assert len(called) == 3 - left
    assert file.read_bytes() == content
    assert (again.top1, again.top5) == (whole.top1, whole.top5)


def test_a_smaller_limit_first_and_all_later(make_artifact: MakeArtifact, tmp_path: Path) -> None:
    artifact, file = make_artifact(), tmp_path / "a.jsonl"
    data = saved(tmp_path)
    part = only(run(artifact, labelled.read(data.source, limit=70), file))
    assert part.top1
    assert part.top1.count == 70
    assert only(run(artifact, data, file)).top1 == wilson(COUNT, COUNT)
    assert [json.loads(line)["start"] for line in file.read_text().splitlines()] == [0, 64, 70, 134]
    assert only(run(artifact, labelled.read(data.source, limit=70), file)).top1 == part.top1


def test_an_interruption_leaves_what_was_answered(
    make_artifact: MakeArtifact, in_each_child: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact, data, file = make_artifact(), saved(tmp_path), tmp_path / "a.jsonl"
    in_each_child("import os, time; sync = os.fsync; os.fsync = lambda to: (sync(to), time.sleep(1))")
    with interrupted_when(lambda: file.exists() and file.stat().st_size > 0), pytest.raises(KeyboardInterrupt):
        run(artifact, data, file)
    answered = [len(top) for top in ranking.read(file).values()]
    assert answered == [ranking.CHUNK]
    monkeypatch.delenv("PYTHONPATH")
    assert only(run(artifact, data, file)).top1 == wilson(COUNT, COUNT)


def test_another_file_or_other_images_are_asked_anew_and_the_old_answers_kept(
    make_artifact: MakeArtifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, data = tmp_path / "a.jsonl", saved(tmp_path)
    run(make_artifact("one"), data, file)
    monkeypatch.setattr(conftest, "WEIGHTS", -WEIGHTS)
    changed = make_artifact("two")
    assert unfinished(cells([changed], runtimes=None, original=False), data, file) == (3, 1)
    row = only(run(changed, data, file))
    assert row.top1
    assert row.top1.right < COUNT / 2
    (tmp_path / "other").mkdir()
    other = saved(tmp_path / "other", images=IMAGES[::-1])
    assert unfinished(cells([changed], runtimes=None, original=False), other, file) == (3, 2)


def test_an_engine_that_crashes_is_a_row_with_its_reason(
    make_artifact: MakeArtifact, in_each_child: Callable[[str], None], tmp_path: Path
) -> None:
    in_each_child("import os; os.kill(os.getpid(), 6)")
    (row,) = run(make_artifact(), saved(tmp_path), tmp_path / "a.jsonl")
    assert row.failure
    assert row.failure.kind == "DeviceFailed"
    assert "onnxruntime was killed by SIGABRT" in row.failure.message
    assert (row.top1, row.top5, row.paired) == (None, None, None)


def test_an_original_that_cannot_be_made_again_leaves_the_others_their_rows(
    make_artifact: MakeArtifact, tmp_path: Path
) -> None:
    asked = cells([make_artifact()], runtimes=None, original=True)
    assert [(cell.runtime, cell.original) for cell in asked] == [("torch", True), ("onnxruntime", False)]
    original, artifact = evaluate(asked, saved(tmp_path), tmp_path / "a.jsonl")
    assert original.failure
    assert original.failure.kind == "UnknownName"
    assert artifact.top1 == wilson(COUNT, COUNT)
    assert artifact.paired is None


def test_the_original_is_asked_once_where_it_is_wanted(make_artifact: MakeArtifact) -> None:
    artifacts = [make_artifact("one"), make_artifact("two")]
    for runtimes, original in ((["torch", "onnxruntime"], False), (["torch", "onnxruntime"], True), (None, True)):
        found = [cell.runtime for cell in cells(artifacts, runtimes=runtimes, original=original)]
        assert found == ["torch", "onnxruntime", "onnxruntime"]


def test_runtimes_that_are_not_there_or_do_not_open_it_are_refused(make_artifact: MakeArtifact) -> None:
    artifact = make_artifact()
    with pytest.raises(UnknownName, match="did you mean onnxruntime"):
        cells([artifact], runtimes=["onnxruntim"], original=False)
    with pytest.raises(Unsupported, match="litert does not open it"):
        cells([artifact], runtimes=["litert"], original=True)


def test_what_gives_no_classes_is_refused(make_artifact: MakeArtifact) -> None:
    outputs = (TensorRecord(name="logits", shape=(None, CLASSES, 4, 4), dtype="float32"),)
    with pytest.raises(Unsupported, match="one value for each class"):
        cells([make_artifact(outputs=outputs)], runtimes=None, original=False)


def test_labels_beyond_the_models_classes_are_refused_before_anything_runs(
    make_artifact: MakeArtifact, tmp_path: Path
) -> None:
    data = saved(tmp_path, labels=np.full(COUNT, CLASSES))
    with pytest.raises(FileProblem, match=f"label {CLASSES} is none of the model's {CLASSES} classes"):
        unfinished(cells([make_artifact()], runtimes=None, original=False), data, tmp_path / "a.jsonl")
    assert not (tmp_path / "a.jsonl").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"not answers\n",
        b'{"schema":1}\n',
        b'{"schema":2,"question":{},"start":0,"top":[]}\n',
        b"\xff\xfe\n",
        b"\n",
    ],
)
def test_a_file_of_something_else_is_refused_and_left_alone(
    make_artifact: MakeArtifact, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "notes.txt"
    file.write_bytes(content)
    with pytest.raises(FileProblem, match=r"notes\.txt, line 1 holds no answers"):
        unfinished(cells([make_artifact()], runtimes=None, original=False), saved(tmp_path), file)
    assert file.read_bytes() == content


@pytest.mark.parametrize("place", ["", "no/such/folder/a.jsonl"])
def test_a_place_that_cannot_be_written_is_named(make_artifact: MakeArtifact, tmp_path: Path, place: str) -> None:
    with pytest.raises(FileProblem, match="cannot be written"):
        run(make_artifact(), saved(tmp_path), tmp_path / place)


def test_images_that_are_gone_by_now_are_named(make_artifact: MakeArtifact, tmp_path: Path) -> None:
    data = saved(tmp_path)
    data.source.unlink()
    with pytest.raises(FileProblem, match=r"images\.npz gives no images"):
        run(make_artifact(), data, tmp_path / "a.jsonl")
