"""The page in a browser: it sorts, filters, asks nothing of the network, and fits a telephone and a large screen."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evit_edge.device_bench.report import summary

from . import comparisons
from .comparisons import FILES, comparison

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="there is no Chromium with its driver here: apt-get install chromium-driver"
)
FLAGS = (
    "headless=new", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-component-update",
    "disable-sync", "no-first-run", "disable-dev-shm-usage",
)  # fmt: skip
HEADINGS = "return Array.from(document.querySelectorAll('#results thead th'), cell => cell.textContent.trim())"
SHOWN = """return Array.from(document.querySelectorAll('#results tbody tr'))
  .filter(row => !row.hidden).map(row => Array.from(row.cells, cell => cell.dataset.value ?? null))"""

Browser = Any


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(comparisons.shown(), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # With a path of its own, Selenium looks for no driver elsewhere.
    browser = Chrome(options=options, service=Service(executable_path=str(DRIVER)))
    yield browser
    browser.quit()


@pytest.fixture
def browser(started: Browser, page: Path) -> Browser:
    """The page, opened anew at the width of a laptop."""
    resize(started, 1280)
    started.get_log("browser")
    started.get_log("performance")
    started.get(page.as_uri())
    return started


def resize(browser: Browser, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def column(browser: Browser, heading: str) -> list[str | None]:
    place = browser.execute_script(HEADINGS).index(heading)
    return [row[place] for row in browser.execute_script(SHOWN)]


def press(browser: Browser, heading: str) -> str:
    """Press a column's heading; how it is sorted then, for those who do not see."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    for cell in browser.find_elements(By.CSS_SELECTOR, "#results thead th"):
        if cell.get_attribute("textContent").strip() == heading:
            # With a key: the pointer does not reach what has scrolled behind the first column.
            cell.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
            return str(cell.get_attribute("aria-sort"))
    raise AssertionError(f"there is no column {heading}")


def choose(browser: Browser, name: str, value: str) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    Select(browser.find_element(By.NAME, name)).select_by_visible_text(value)


def search(browser: Browser, words: str) -> None:
    from selenium.webdriver.common.by import By

    box = browser.find_element(By.NAME, "text")
    box.clear()
    box.send_keys(words)


def count(browser: Browser) -> str:
    return str(browser.execute_script("return document.getElementById('count').textContent"))


def ranked_then_not(values: list[str | None], *, reverse: bool) -> list[float]:
    """The 20 rows that are ranked as numbers, which come first whichever way."""
    numbers = [float(value) for value in values[:20] if value is not None]
    assert len(numbers) == 20
    assert numbers == sorted(numbers, reverse=reverse)
    return numbers


def test_a_column_of_numbers_is_sorted_as_numbers_both_ways(browser: Browser) -> None:
    assert press(browser, "latency ms [95 %]") == "ascending"
    up = ranked_then_not(column(browser, "latency ms [95 %]"), reverse=False)
    # As text, 78 would come before 8.
    assert min(up) < 10 < max(up)
    assert press(browser, "latency ms [95 %]") == "descending"
    ranked_then_not(column(browser, "latency ms [95 %]"), reverse=True)


def test_rows_without_a_figure_and_rows_that_are_not_ranked_stay_last(browser: Browser) -> None:
    for _ in range(2):
        press(browser, "latency ms [95 %]")
        assert column(browser, "latency ms [95 %]")[-1] is None
        assert [int(number or 0) > 20 for number in column(browser, "#")] == [False] * 20 + [True] * 5
    press(browser, "size MiB")
    assert column(browser, "size MiB")[16:20] == [None] * 4


def test_only_one_heading_says_that_it_is_sorted(browser: Browser) -> None:
    press(browser, "img/s")
    press(browser, "target")
    said = browser.execute_script(
        "return Array.from(document.querySelectorAll('#results thead th'), cell => cell.getAttribute('aria-sort'))"
    )
    assert sorted(set(said)) == ["ascending", "none"]
    assert said.count("ascending") == 1
    targets = column(browser, "target")[:20]
    assert targets == sorted(map(str, targets))


def test_choices_and_words_leave_what_has_them_all(browser: Browser) -> None:
    assert count(browser) == "25 of 25 rows"
    choose(browser, "target", "onnx")
    assert count(browser) == "8 of 25 rows"
    choose(browser, "precision", "int8")
    assert set(column(browser, "precision")) == {"int8"}
    search(browser, "ONNXRUNTIME  1.2.3")
    assert count(browser) == "4 of 25 rows"
    search(browser, "nothing like that")
    assert count(browser) == "0 of 25 rows"
    search(browser, "")
    choose(browser, "target", "all")
    choose(browser, "precision", "all")
    choose(browser, "validity", "INVALID")
    assert column(browser, "#") == ["21", "22", "23", "24", "25"]
    choose(browser, "runtime", "litert")
    assert count(browser) == "0 of 25 rows"


def test_a_keyboard_reaches_search_headings_and_rows(browser: Browser) -> None:
    from selenium.webdriver.common.keys import Keys

    reached = []
    for _ in range(12):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        active = browser.switch_to.active_element
        reached.append(active.get_attribute("name") or active.get_attribute("class") or active.text)
    assert reached[:7] == ["text", "target", "precision", "runtime", "validity", "all", "scroll"]
    assert reached[7:9] == ["#", "target"]
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    sorted_by = "return document.querySelector('#results th[aria-sort=ascending]').textContent.trim()"
    assert browser.execute_script(sorted_by) == reached[11]


def test_all_columns_are_there_on_demand(browser: Browser) -> None:
    from selenium.webdriver.common.by import By

    visible = (
        "return Array.from(document.querySelectorAll('#results thead th')).filter(cell => cell.offsetWidth).length"
    )
    before = browser.execute_script(visible)
    browser.find_element(By.NAME, "all").click()
    assert browser.execute_script(visible) == len(browser.execute_script(HEADINGS)) > before


def test_nothing_is_complained_of_and_nothing_is_asked_of_the_network(browser: Browser, page: Path) -> None:
    press(browser, "img/s")
    search(browser, "tflite")
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert page.as_uri() in asked
    assert all(url == page.as_uri() or url.startswith("data:") for url in asked)


@pytest.mark.parametrize("width", [400, 768, 1600])
def test_only_the_table_scrolls_sideways(browser: Browser, width: int) -> None:
    resize(browser, width)
    assert browser.execute_script("return window.innerWidth") == width
    room, taken = browser.execute_script(
        "return [document.documentElement.clientWidth, document.documentElement.scrollWidth]"
    )
    assert taken <= room
    outside = browser.execute_script("""return Array.from(document.querySelectorAll('body *'))
      .filter(each => !each.closest('.scroll') && !each.closest('svg') && each.tagName !== 'OPTION')
      .filter(each => each.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
      .map(each => each.outerHTML.slice(0, 80))""")
    assert outside == []


def test_text_stands_out_in_light_and_in_dark(browser: Browser) -> None:
    colours = "const style = getComputedStyle(document.body); return [style.color, style.backgroundColor]"
    found = {}
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        found[scheme] = [luminance(colour) for colour in browser.execute_script(colours)]
        text, back = found[scheme]
        assert contrast(text, back) > 7
        for each in (".VALID", ".SEMI", ".INVALID", "caption", "figcaption", "tr.unranked td", "tbody a"):
            style = f"return getComputedStyle(document.querySelector('{each}')).color"
            assert contrast(luminance(browser.execute_script(style)), back) > 4.5, each
        svg = "return getComputedStyle(document.querySelector('figure svg text')).fill"
        assert contrast(luminance(browser.execute_script(svg)), back) > 7
    assert found["light"][1] > 0.9
    assert found["dark"][1] < 0.1


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)`, as WCAG 2 defines it."""
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def test_the_comparison_has_what_these_tests_count_on() -> None:
    rows = summary.rows(comparison())
    assert len(rows) == 4 * len(FILES) + 1 == 25
    assert [row.ranked for row in rows] == [True] * 20 + [False] * 5
