"""Rows as a LaTeX table, with booktabs and as wide as there is room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .summary import Row
from .table import MARK, MEANING, NOT_APPLICABLE, columns, narrow

LEFT_OUT: Final = ("load ms", "first ms", "processes", "parity (cosine, top-1)", "memory MiB (process)")
SIGNS: Final = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    NOT_APPLICABLE: r"\textemdash{}",
    MARK: r"$\star$",
    "\n": " ",
}


def latex(rows: Sequence[Row]) -> str:
    """A `table*` for `\\usepackage{booktabs, graphicx}`; a table that is too wide is scaled down.

    What all rows share stands in the caption; columns without any figure are left out. Names beyond what the
    document's engine knows are left as they are: XeLaTeX and LuaLaTeX know all of Unicode.
    """
    shown = [
        column
        for column in columns("short", "usual")
        if column.heading not in LEFT_OUT and not (rows and all(column.text(row) == NOT_APPLICABLE for row in rows))
    ]
    caption, headings, lines = narrow(rows, shown)
    numeric = {column.heading for column in shown if column.value}
    said = ". ".join(part for part in (caption, MEANING) if part)
    return "\n".join(
        [
            r"% \usepackage[T1]{fontenc}",
            r"% \usepackage{booktabs, graphicx}",
            r"\begin{table*}",
            r"\centering\small",
            rf"\caption{{{_escaped(said)}.}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{''.join('r' if heading in numeric else 'l' for heading in headings)}}}",
            r"\toprule",
            _line(headings),
            r"\midrule",
            *map(_line, lines),
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table*}",
            "",
        ]
    )


def _line(cells: Sequence[str]) -> str:
    return " & ".join(map(_escaped, cells)) + r" \\"


def _escaped(text: str) -> str:
    # Two hyphens would be a dash, and what follows a line's end its argument.
    escaped = "".join(SIGNS.get(letter, letter) for letter in text).replace("--", "-{}-")
    return "{}" + escaped if escaped.startswith(("[", "*")) else escaped
