"""The page about what quantization cost: whole, escaped, and without anything from elsewhere."""

import math
import re
from pathlib import Path

import pytest

from evit_edge.converters.losses import Bars, Loss, Losses, OutputLoss, Picture, WeightLoss
from evit_edge.device_bench.report import drawing, loss_chart, loss_page
from evit_edge.models.errors import FileProblem

from .tags import Tags

EVIL = "<script>alert(1)</script>"


def loss(name: str, isolated_db: float = 30.0, *, suspicious: bool = False) -> Loss:
    weight = WeightLoss(name="w", dtype="int8", sqnr_db=44.0, worst_channel=3, worst_channel_db=41.0)
    return Loss(
        name=name,
        kind="Conv",
        arithmetic="int8",
        isolated_db=isolated_db,
        propagated_db=20.0,
        seen=(-1.0, 2.0),
        held=(-1.5, 2.5),
        clipped=0.25,
        weight=weight,
        remark="",
        suspicious=suspicious,
    )


def losses(*operators: Loss) -> Losses:
    bars = Bars(low=-1.0, high=1.0, meant=(0.25, 0.75), found=(0.5, 0.5))
    return Losses(
        images=2,
        output=OutputLoss(sqnr_db=math.inf, agreeing=2),
        operators=operators,
        pictures=(Picture(place=0, activation=bars, weight=bars),),
        left_out=(),
        notes=(),
    )


def page() -> str:
    return loss_page.render(losses(loss(EVIL, suspicious=True), loss("b", math.inf)), title=EVIL, summary=[EVIL])


def test_the_page_refers_to_nothing_but_itself() -> None:
    tags = Tags(page())
    assert all(reference.startswith("#") for reference in tags.references)
    assert not re.search(r"https?://|@import|url\((?!['\"]?#)", page())


def test_no_id_is_there_twice_and_every_reference_leads_to_one() -> None:
    tags = Tags(page())
    assert tags.ids
    assert len(tags.ids) == len(set(tags.ids))
    assert {reference.removeprefix("#") for reference in tags.references} <= set(tags.ids)


def test_names_from_a_file_are_text() -> None:
    assert "script" not in Tags(page()).found
    assert page().count("&lt;script&gt;") >= 4


def test_pictures_figures_and_marks_are_there() -> None:
    found = page()
    assert Tags(found).found.count("svg") == 3
    assert "Suspicious" in found
    assert "∞" in found
    assert "prefers-color-scheme: dark" in found
    assert "var(--text)" in found
    assert not [colour for colour in drawing.VARIABLES if colour in found]


def test_the_same_report_is_the_same_page() -> None:
    assert page() == page()


def test_a_result_that_is_one_number_has_a_picture() -> None:
    assert "<svg" in loss_chart.activations(Bars(low=0.0, high=0.0, meant=()), None)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    loss_page.write(losses(loss("a")), title="t", summary=[], file=file)
    assert file.read_text().startswith("<!doctype html>")
    assert list(tmp_path.iterdir()) == [file]
    with pytest.raises(FileProblem, match="cannot be written"):
        loss_page.write(losses(loss("a")), title="t", summary=[], file=tmp_path / "none" / "report.html")
