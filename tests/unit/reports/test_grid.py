"""Tables of figures in all their forms."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from pathlib import Path

import pytest

from intramodal.reports.grid import Grid, Place, render_grids, to_csv, to_latex

GRID = Grid(
    "Retrieval & more",
    [("CLIP", "I, I"), ("CLIP", "PCA←"), ("DINO", "I, I")],
    ["Cars_1", "Pets"],
    {
        (0, 0): Place(24.94, 24.9),
        (0, 1): Place(31.2, 31.4),
        (1, 0): Place(34.6),
        (1, 1): Place(None, 47.7, state="failed", reason="the split file is missing"),
        (2, 0): Place(34.58, 30.0, state="partial", reason="one of two is missing"),
    },
    head_names=("model", "method"),
    caption="mAP <b>",
    banner="A quick look",
)


def test_a_place_has_no_difference_unless_both_are_whole() -> None:
    assert GRID.places[0, 0].difference == pytest.approx(0.04)
    assert GRID.places[1, 0].difference is None
    assert GRID.places[2, 0].difference is None


def test_the_best_are_those_that_print_alike() -> None:
    assert GRID.best() == {(1, 0), (2, 0)}


def test_a_difference_of_nothing_has_no_sign() -> None:
    assert [GRID.signed(value) for value in (0.04, -0.04, -0.06, None)] == [
        *("0.0", "0.0", "-0.1", "–")  # type: ignore[list-item]
    ]


def test_markdown_shows_ours_the_reference_and_the_difference() -> None:
    lines = GRID.to_markdown().splitlines()
    assert "| CLIP | I, I | 24.9 (24.9, 0.0) | 31.2 (31.4, -0.2) |" in lines
    assert "| CLIP | PCA← | **34.6** | failed (47.7) |" in lines
    assert "| DINO | I, I | **34.6*** (30.0) |  |" in lines
    assert "- the split file is missing" in lines


def test_csv_has_a_line_a_place() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv([GRID, GRID]))))
    assert len(rows) == 2 * len(GRID.places)
    assert rows[0]["model"] == "CLIP"
    assert rows[3]["state"] == "failed"
    assert rows[3]["value"] == ""
    assert {row["remark"] for row in rows} == {"A quick look"}


def test_latex_escapes_all_that_is_given() -> None:
    text = GRID.to_latex()
    assert r"Retrieval \& more" in text
    assert r"Cars\_1" in text
    assert r"PCA$\leftarrow$" in text
    assert r"\textcolor{gray}{\scriptsize 24.9 (0.0)}" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX is installed")
def test_latex_compiles(tmp_path: Path) -> None:
    body = to_latex([GRID])
    document = (
        "\\documentclass{article}\\usepackage{booktabs,graphicx,xcolor}"
        f"\\begin{{document}}\n{body}\n\\end{{document}}\n"
    )
    (tmp_path / "t.tex").write_text(document, encoding="utf-8")
    subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=120,
    )
    assert (tmp_path / "t.pdf").exists()


def test_the_page_escapes_all_that_is_given_and_asks_for_nothing(tmp_path: Path) -> None:
    page = tmp_path / "t.html"
    render_grids([GRID], page, title="T <script>", about=["<i>"], command="intramodal <x>")
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "mAP &lt;b&gt;" in text
    assert "http" not in text.replace("http-equiv", "")
    assert text.count('class="failed"') == 1
