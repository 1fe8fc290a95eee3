"""The page as text: whole, escaped, without anything from elsewhere, and with no picture that shows nothing."""

import re
from dataclasses import replace

import pytest

from evit_edge.device_bench.report import chart, drawing, summary
from evit_edge.device_bench.report.page import render
from evit_edge.device_bench.result import Result

from ..conftest import DEVICE, MakeResult, make_trial
from . import comparisons
from .comparisons import comparison
from .tags import Tags

EVIL = "<script>alert(1)</script>"


def drawn(results: list[Result]) -> str:
    return render(results, summary.rows(results))


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return comparison()


@pytest.fixture(scope="module")
def page() -> str:
    return comparisons.shown()


def test_the_page_refers_to_nothing_but_itself(page: str) -> None:
    tags = Tags(page)
    assert all(reference.startswith(("#", "data:,")) for reference in tags.references)
    assert not re.search(r"https?://|@import|url\((?!['\"]?#)", page)
    assert "default-src 'none'" in page


def test_no_id_is_there_twice_and_every_reference_leads_to_one(page: str) -> None:
    tags = Tags(page)
    assert len(tags.ids) == len(set(tags.ids))
    local = [reference for reference in tags.references if reference.startswith("#")]
    assert {reference.removeprefix("#") for reference in local} <= set(tags.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(tags.ids)


def test_every_picture_is_there_in_the_pages_own_colours(page: str) -> None:
    titles = re.findall(r"<figure>\s*<h3>([^<]+)</h3>", page)
    assert titles == [
        "Latency against accuracy",
        "Latency against size",
        "Thread scaling",
        "Batch scaling",
        "Size of the files",
        "Spread between processes",
        "Memory added to the peak",
    ]
    assert Tags(page).found.count("svg") == 7
    assert Tags(page).found.count("figcaption") == 7
    assert not [colour for colour in drawing.VARIABLES if colour in page]
    assert set(re.findall(r"var\((--\w+)\)", page)) == set(re.findall(r"(--\w+):", page))


def test_names_from_a_file_are_text_wherever_they_stand(make_result: MakeResult) -> None:
    device = DEVICE.model_copy(update={"cpu": EVIL, "device": EVIL, "os": EVIL, "versions": {EVIL: EVIL}})
    names = dict.fromkeys(("model", "weights", "runtime", "session", "effort"), EVIL)
    results = [
        make_result(**names, target='"><img src=x onerror=alert(1)>', device=device, command=(EVIL,), threads=threads)
        for threads in (1, 2)
    ]
    page = drawn(results)
    tags = Tags(page)
    assert tags.found.count("script") == 1
    assert "img" not in tags.found
    assert not [name for name in tags.attributes if name.startswith("on")]
    assert page.count("&lt;script&gt;") > 10


def test_what_has_nothing_to_show_has_no_picture(make_result: MakeResult) -> None:
    alone = summary.rows([make_result(trials=(make_trial(),), memory=None, size_bytes=None)])
    assert chart.figures(alone) == []
    assert "Pictures" not in drawn([make_result(trials=(make_trial(),), memory=None, size_bytes=None)])
    titles = [figure.title for figure in chart.figures(summary.rows([make_result()]))]
    assert titles == ["Size of the files", "Spread between processes", "Memory added to the peak"]


def test_an_empty_file_is_a_page_too() -> None:
    assert "No results." in drawn([])


def test_each_row_leads_to_the_command_that_made_it(results: list[Result]) -> None:
    later = comparison(1, session="later", command=("evit-edge", "bench", "$HOME; rm"), seed=7)
    page = drawn([*results[:2], *later[:1], results[2]])
    rows = re.findall(r'<tr id="row-\d"[^>]*>\s*<th[^>]*><a href="#origin-(\d)">', page)
    assert rows == ["1", "1", "2", "1"]
    first, second = re.findall(r'<article id="origin-\d">(.*?)</article>', page, flags=re.DOTALL)
    assert "Session 1: rows 1–2, 4<" in first
    assert "evit-edge bench &#39;some folder&#39; --threads 1,2" in first
    assert "Session 2: rows 3<" in second
    assert "evit-edge bench &#39;$HOME; rm&#39;" in second
    assert "<dt>seed of the order</dt><dd>7</dd>" in second
    for fact in ("Some CPU", "Linux 6.1", "onnxruntime 1.2.3", "2025-01-02 00:00:00 UTC"):
        assert fact in first


def test_doubts_are_explained_in_words(page: str) -> None:
    doubts = page[page.index("Why rows are not VALID") : page.index("Where the figures come from")]
    assert "XNNPACK runs 4 of 10 nodes" in doubts
    assert "FAILED: litert was killed by SIGILL" in doubts


def test_a_page_of_200_rows_stays_small_and_says_what_is_not_drawn(results: list[Result]) -> None:
    # Rows of the same figures cost the page as much as others.
    page = drawn(results * 8)
    assert page.count('<tr id="row-') == 200
    assert len(page.encode()) < 1.5e6
    assert page.count("Only the first 40 of 192 are drawn.") == 2


def test_sessions_beyond_the_third_have_no_pictures_of_their_own(results: list[Result]) -> None:
    several = [result.model_copy(update={"session": str(place)}) for place, result in enumerate(results[:5])]
    page = drawn(several)
    assert "Pictures of the first 3 sessions; 2 more have none." in page
    assert page.count("Spread between processes, session") == 2 * 3


@pytest.mark.parametrize(
    ("latencies", "left", "width"), [((1.0, 2.0, 4.0), 0, 100), ((2.0, 2.0, 2.0), 50, 0), ((None, 2.0, None), 50, None)]
)
def test_interval_bars_are_where_the_interval_is(
    make_result: MakeResult, latencies: tuple[float | None, ...], left: float, width: float | None
) -> None:
    result = make_result()
    low, middle, high = latencies
    (row,) = summary.rows([result])
    changed = replace(row, latency_low_ms=low, latency_ms=middle, latency_high_ms=high)
    page = render([result], [changed])
    bar = re.search(r'<span class="bar" aria-hidden="true">(.*?)</span>', page)
    assert bar
    if width is None:
        assert "<i" not in bar[1]
    else:
        assert re.search(rf'<i style="left:{left}(\.0)?%;width:{width}(\.0)?%"></i>', bar[1])
    assert re.search(r'<b style="left:50(\.0)?%"></b>', bar[1])
