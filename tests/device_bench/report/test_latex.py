"""The LaTeX table: escaped, and where there is a TeX, one that compiles."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from evit_edge.device_bench.report import latex, summary

from ..conftest import MakeResult
from .comparisons import comparison

EVIL = r"\input{x} a_b 50% $ & # ^ ~ {} <|> [x] -- " + '"q"'
PAGE = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs, graphicx}\begin{document}"


def test_every_line_has_as_many_cells_as_columns(make_result: MakeResult) -> None:
    text = latex.latex(summary.rows([make_result(model=EVIL), make_result(model="[x]*", runtime="a&b")]))
    (alignment,) = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", text)
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(body) == 3
    for line in body:
        assert len(re.findall(r"(?<!\\)&", line)) == len(alignment) - 1
    assert r"\input" not in text
    assert "\n{}[x]*" in text


def test_columns_without_figures_are_left_out_and_the_rest_has_its_interval(make_result: MakeResult) -> None:
    text = latex.latex(summary.rows([make_result(), make_result(threads=2)]))
    assert "top-1" not in text
    assert "2.000 [2.000, 2.000]" in text
    assert r"\toprule" in text


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="there is no pdflatex here")
def test_it_compiles_and_is_no_wider_than_the_page(make_result: MakeResult, tmp_path: Path) -> None:
    tables = [[*comparison(), make_result(model=EVIL), make_result(model="[x]*")], [make_result()], []]
    content = [PAGE, *(latex.latex(summary.rows(results)) for results in tables), r"\end{document}"]
    (tmp_path / "page.tex").write_text("\n".join(content))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
