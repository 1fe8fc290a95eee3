from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from evit_edge.converters import golden
from evit_edge.converters.artifact import (
    Artifact,
    Manifest,
    ModelRecord,
    ParityRecord,
    ParityRow,
    Precision,
    TensorRecord,
    digests_of,
    read,
    write_manifest,
)
from evit_edge.converters.conversion import CONVERTERS
from evit_edge.converters.parity import THRESHOLDS, Threshold, check, compare, complaint, judge
from evit_edge.models.errors import ParityFailed

from .coreml import tiny

Array = NDArray[Any]
FP32 = THRESHOLDS["fp32"]
LOOSE = Threshold(cosine=-1, relative_l2=np.inf, top1=0)


def logits(count: int = 8, classes: int = 10, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(0, 3, (count, classes)).astype(np.float32)


def test_the_same_outputs_pass_with_perfect_figures() -> None:
    row = compare([logits()], [logits()], inputs="images", threshold=FP32)
    assert row.passed
    assert (row.max_abs, row.relative_l2, row.cosine, row.sqnr_db, row.top1, row.top5) == (0, 0, 1, None, 1, 1)


def test_figures_are_those_of_the_definitions() -> None:
    want, got = np.array([[3.0, 4.0]]), np.array([[3.0, 3.0]])
    row = compare([want], [got], inputs="images", threshold=LOOSE)
    assert row.max_abs == 1
    assert row.relative_l2 == pytest.approx(1 / 5)
    assert row.cosine == pytest.approx(21 / (5 * 18**0.5))
    assert row.sqnr_db == pytest.approx(10 * np.log10(25))
    assert row.top1 == 0


def test_one_bad_image_is_not_averaged_away() -> None:
    want = logits(256)
    got = want.copy()
    got[77] = np.roll(got[77], 1)
    row = compare([want], [got], inputs="images", threshold=FP32)
    assert not row.passed
    assert row.worst_index == 77
    assert row.cosine < 0.9


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_fails_and_says_where(poison: float) -> None:
    got = logits()
    got[3, 2] = poison
    verdict = judge({"noise": [logits()]}, {"noise": [got]}, precision="fp32", engine="onnxruntime")
    assert not verdict.passed
    assert verdict.rows[0].relative_l2 == np.inf
    assert "noise[3]" in complaint(verdict)


def test_zeros_for_zeros_agree_and_anything_else_for_zeros_does_not() -> None:
    zeros = np.zeros((1, 10), np.float32)
    assert compare([zeros], [zeros], inputs="zeros", threshold=FP32).passed
    assert not compare([zeros], [zeros + 1e-3], inputs="zeros", threshold=FP32).passed


def test_another_shape_is_an_error_that_names_both() -> None:
    with pytest.raises(ParityFailed, match=r"\(8, 10\).*\(8, 9\)"):
        compare([logits()], [logits()[:, :9]], inputs="images", threshold=FP32)


def test_top1_counts_on_real_images_alone() -> None:
    want = np.array([[1.0, 1.0 - 1e-7]])
    got = want[:, ::-1].copy()
    assert not compare([want], [got], inputs="images", threshold=FP32).passed
    assert compare([want], [got], inputs="noise", threshold=FP32).passed


def far_off(precision: Precision, group: str) -> ParityRecord:
    """The verdict where one group is upside down and the images are right."""
    want = {"images": [logits()], group: [logits()]}
    return judge(want, {**want, group: [-logits()]}, precision=precision, engine="litert")


@pytest.mark.parametrize("precision", ["int8", "w8a16"])
def test_inputs_beyond_the_calibration_are_shown_and_not_judged_where_there_is_one(precision: Precision) -> None:
    verdict = far_off(precision, "large")
    images, large = verdict.rows
    assert verdict.passed
    assert (images.judged, large.judged, large.passed) == (True, False, True)
    assert large.cosine == pytest.approx(-1)
    assert not far_off(precision, "noise").passed


@pytest.mark.parametrize("precision", ["fp32", "fp16", "w8"])
def test_inputs_larger_than_any_image_are_judged_where_nothing_was_calibrated(precision: Precision) -> None:
    verdict = far_off(precision, "large")
    assert not verdict.passed
    assert [row.judged for row in verdict.rows] == [True, True]
    assert "large[" in complaint(verdict)


def test_every_precision_that_can_be_written_has_a_threshold() -> None:
    for target in CONVERTERS.names():
        assert set(CONVERTERS.load(target).precisions) <= set(THRESHOLDS)


@given(
    arrays(np.float64, (4, 6), elements=st.floats(-1e3, 1e3)),
    arrays(np.float64, (4, 6), elements=st.floats(-1e3, 1e3)),
    st.permutations(range(4)),
)
def test_the_verdict_does_not_depend_on_the_order_of_the_samples(want: Array, got: Array, order: list[int]) -> None:
    row = compare([want], [got], inputs="images", threshold=FP32)
    shuffled = compare([want[order]], [got[order]], inputs="images", threshold=FP32)
    assert row.passed == shuffled.passed
    assert row.max_abs == shuffled.max_abs
    assert row.relative_l2 == shuffled.relative_l2
    assert -1 - 1e-9 <= row.cosine <= 1 + 1e-9
    assert 0 <= row.top1 <= 1


@given(arrays(np.float64, (3, 8), elements=st.floats(1, 1e3)), st.floats(0.011, 10))
def test_a_relative_error_over_the_threshold_never_passes(want: Array, off: float) -> None:
    assert not compare([want], [want * (1 + off)], inputs="noise", threshold=FP32).passed


def off_by(relative: float, *, group: str, precision: Precision, halves: dict[str, float] | None) -> ParityRecord:
    """The verdict on a group whose answers are a share of their own length off, at a right angle."""
    want = np.array([[1.0, 0.0, 0.0]])
    got = want + np.array([[0.0, relative, 0.0]])
    return judge({group: [want]}, {group: [got]}, precision=precision, engine="x", halves=halves)


@pytest.mark.parametrize(
    ("relative", "half", "passes"),
    [
        (0.03, None, True),
        (0.04, None, False),
        # Twice what the original itself loses.
        (0.04, 0.021, True),
        (0.04, 0.019, False),
        # Less than the threshold anyway: nothing is narrowed.
        (0.03, 0.001, True),
        (0.5, 0.3, True),
        (0.7, 0.3, False),
    ],
)
def test_what_the_original_loses_in_half_precision_widens_the_limit(
    relative: float, half: float | None, passes: bool
) -> None:
    halves = None if half is None else {"large": half}
    verdict = off_by(relative, group="large", precision="fp16", halves=halves)
    assert verdict.passed is passes
    limit = max(THRESHOLDS["fp16"].relative_l2, 2 * (half or 0))
    assert verdict.rows[0].limit == pytest.approx(limit)


@pytest.mark.parametrize("group", ["images", "noise", "zeros"])
def test_no_other_group_is_widened(group: str) -> None:
    verdict = off_by(0.04, group=group, precision="fp16", halves={"large": 10.0})
    assert not verdict.passed
    assert verdict.rows[0].limit == THRESHOLDS["fp16"].relative_l2


@pytest.mark.parametrize("precision", ["fp32", "fp16", "w8", "int8"])
def test_a_verdict_keeps_the_limit_that_it_was_judged_by(precision: Precision) -> None:
    verdict = judge({"images": [logits()]}, {"images": [logits()]}, precision=precision, engine="x")
    assert [row.limit for row in verdict.rows] == [THRESHOLDS[precision].relative_l2]
    again = ParityRecord.model_validate_json(verdict.model_dump_json())
    assert again == verdict


def test_a_complaint_names_the_limit_that_was_widened() -> None:
    verdict = off_by(0.5, group="large", precision="fp16", halves={"large": 0.1})
    assert "relative L2 5.00e-01 (needs ≤ 0.2)" in complaint(verdict)


def test_a_row_from_before_limits_were_kept_is_read() -> None:
    row = compare([logits()], [logits()], inputs="images", threshold=FP32).model_dump(exclude={"limit"})
    assert ParityRow.model_validate(row).limit is None


@pytest.mark.parametrize(("precision", "widened"), [("fp16", True), ("fp32", False), ("w8", False)])
def test_only_half_precision_is_compared_with_half_precision(
    tmp_path: Path, precision: Precision, widened: bool
) -> None:
    """An artifact whose original is said to lose everything in half precision."""
    artifact = golden_artifact(tmp_path, precision)
    answers = golden.outputs(artifact)

    def execute(folder: Path, feeds: Any, *, runtime: str | None = None) -> list[Array]:
        return [np.concatenate(parts) for parts in zip(*answers.values(), strict=True)]

    limits = {row.inputs: row.limit for row in check(artifact, execute=execute, engine="x").rows}
    assert limits["images"] == THRESHOLDS[precision].relative_l2
    assert limits["large"] == (pytest.approx(20) if widened else THRESHOLDS[precision].relative_l2)


def golden_artifact(folder: Path, precision: Precision) -> Artifact:
    """A manifest and golden answers, without a file to run."""
    arrays_: dict[str, Any] = {"half_large": np.float32(10)}
    for group, count in (("images", 3), ("large", 2)):
        arrays_[f"pixels_{group}"] = np.zeros((count, tiny.SIZE, tiny.SIZE, 3), np.uint8)
        arrays_[f"gain_{group}"] = np.float32(1)
        arrays_[f"output_{group}_0"] = logits(count)
    golden.save(folder, arrays_)
    image = TensorRecord(name="image", shape=(None, 3, tiny.SIZE, tiny.SIZE), dtype="float32")
    known: dict[str, Any] = {"key": "0", "target": "coreml", "precision_found": precision, "options": {}}
    manifest = Manifest(
        **known,
        model=ModelRecord.of(tiny.spec()),
        precision=precision,
        inputs=(image,),
        outputs=(TensorRecord(name="logits", shape=(None, 10), dtype="float32"),),
        payload="golden.npz",
        files=digests_of(folder),
        versions={},
        created="2025-01-01T00:00:00Z",
    )
    write_manifest(folder, manifest)
    return read(folder)
