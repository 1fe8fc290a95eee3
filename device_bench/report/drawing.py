"""SVG for pages: matplotlib's pictures in the page's own colours, so that they fit light and dark. Draws no data."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

# What the page replaces by its own variables: matplotlib takes no names of style sheets.
TEXT, FIRST, SECOND, THIRD = "#010101", "#020202", "#030303", "#040404"
FOURTH, FIFTH, SIXTH, MUTED = "#050505", "#060606", "#070707", "#080808"
VARIABLES: Final = {
    TEXT: "var(--text)",
    FIRST: "var(--first)",
    SECOND: "var(--second)",
    THIRD: "var(--third)",
    FOURTH: "var(--fourth)",
    FIFTH: "var(--fifth)",
    SIXTH: "var(--sixth)",
    MUTED: "var(--muted)",
}


@contextmanager
def drawn(width: float, height: float) -> Iterator[tuple[Any, list[str]]]:
    """Axes to draw on, inches, and a list that holds the SVG afterwards."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: dict[Any, Any] = dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), TEXT
    )
    # Paths would not be found by a search in the page, and a fixed salt gives the same file twice.
    style |= {"svg.fonttype": "none", "svg.hashsalt": "evit-edge", "font.size": 8}
    finished: list[str] = []
    with rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        yield axes, finished
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    finished.append(_inline(text.getvalue()))


def apart(svg: str, name: str) -> str:
    """A picture whose ids are of no other's: all pictures have marks that are the same, and of the same name."""
    return re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", svg)


def _inline(svg: str) -> str:
    """The element alone, in the page's colours and as wide as there is room."""
    element = svg[svg.index("<svg") :]
    # Groups are numbered from one in every picture; what is referred to has a digest for a name.
    element = re.sub(r' id="[^"]*_\d+"', "", element)
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", element, count=1)
    element = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", element, count=1)
    element = re.sub(r' xmlns(:xlink)?="[^"]*"', "", element).replace("xlink:href", "href")
    for colour, variable in VARIABLES.items():
        element = element.replace(colour, variable)
    return element
