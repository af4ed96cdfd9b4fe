"""Tables of figures in all their forms."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from intramodal.errors import InputError
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


INTERVALS = Grid(
    "accuracy",
    [("raw",), ("pca",)],
    ["1", "2"],
    {
        (0, 0): Place(10, low=8, high=12),
        (0, 1): Place(20, error=0.5),
        (1, 0): Place(30, low=25, high=35),
        (1, 1): Place(None, state="missing"),
    },
    with_intervals=True,
)

HOSTILE = Grid(
    "\\input{x} $ # ~ ^ 中 ř",
    [("[1em]",), ("*",), ("%&_{}",)],
    ["ñ|<>", "日本"],
    {(row, column): Place(1, 2) for row in range(3) for column in range(2)},
    notes=["→ ½ α"],
)


def test_a_place_has_no_difference_unless_both_are_whole() -> None:
    assert GRID.places[0, 0].difference == pytest.approx(0.04)
    assert GRID.places[1, 0].difference is None
    assert GRID.places[2, 0].difference is None


def test_the_best_are_those_that_print_alike() -> None:
    alike = replace(GRID, places={**GRID.places, (2, 0): Place(34.58)})
    assert alike.best() == {(1, 0), (2, 0)}


def test_a_difference_of_nothing_has_no_sign() -> None:
    assert [GRID.signed(value) for value in (0.04, -0.04, -0.06, None)] == [
        *("0.0", "0.0", "-0.1", "–")  # type: ignore[list-item]
    ]


def test_markdown_shows_ours_the_reference_and_the_difference() -> None:
    lines = GRID.to_markdown().splitlines()
    assert "| CLIP | I, I | 24.9 (24.9, 0.0) | 31.2 (31.4, -0.2) |" in lines
    assert "| CLIP | PCA← | **34.6** | failed (47.7) |" in lines
    assert "| DINO | I, I | 34.6* (30.0) |  |" in lines
    assert "- the split file is missing" in lines


def test_the_best_are_the_lowest_or_none_where_that_is_said() -> None:
    assert replace(GRID, bold="lowest").best() == {(0, 0)}
    assert replace(GRID, bold="none").best() == frozenset()


def test_intervals_stand_where_there_is_no_reference_and_are_always_in_the_data() -> None:
    lines = INTERVALS.to_markdown().splitlines()
    assert "| raw | 10.0 [8.0, 12.0] | 20.0 ± 0.5 |" in lines
    assert "[8.0, 12.0]" not in replace(INTERVALS, with_intervals=False).to_markdown()
    assert r"\textcolor{gray}{\scriptsize {[}8.0, 12.0]}" in INTERVALS.to_latex()
    assert INTERVALS.to_dict()["rows"][0]["places"]["1"]["low"] == 8
    assert next(csv.DictReader(io.StringIO(INTERVALS.to_csv())))["high"] == "12"


def test_an_average_says_where_it_lacks_figures() -> None:
    grid = INTERVALS.with_average()
    assert grid.column_heads == ["1", "2", "average"]
    assert (grid.places[0, 2].value, grid.places[0, 2].state) == (15, "done")
    assert (grid.places[1, 2].value, grid.places[1, 2].state) == (30, "partial")
    assert "fewer figures" in grid.to_markdown()


def test_an_average_has_a_reference_where_all_its_figures_have_one() -> None:
    average = HOSTILE.with_average().places[0, 2]
    assert (average.reference, average.difference) == (2, -1)
    assert GRID.with_average().places[1, 2].reference is None


def test_a_table_is_written_in_every_format() -> None:
    assert json.loads(GRID.render("json")) == GRID.to_dict()
    assert GRID.to_dict()["heads"] == ["model", "method"]
    assert GRID.render("html").startswith("<!doctype html>")
    assert "How to reproduce" not in GRID.render("html")
    with pytest.raises(InputError, match="choose md, tex, csv, json, html"):
        GRID.render("pdf")


def test_a_mean_over_fewer_is_never_the_best() -> None:
    places = {(0, 0): Place(50.0), (1, 0): Place(90.0, state="partial"), (2, 0): Place(40.0)}
    grid = Grid("mAP", [("a",), ("b",), ("c",)], ["average"], places)
    assert grid.best() == {(0, 0)}


def test_a_row_of_markdown_is_one_line_whatever_names_are_given() -> None:
    head = Grid(
        "t", [("a\nb|c\\", "<img src=x>")], ["1"], {(0, 0): Place(1)}, head_names=("|", "<")
    )
    lines = [line for line in head.to_markdown().splitlines() if line.startswith("|")]
    assert lines[0] == "| \\| | &lt; | 1 |"
    assert lines[2:] == ["| a b\\|c\\\\ | &lt;img src=x> | 1.0 |"]


@pytest.mark.parametrize("file_format", ["md", "tex", "csv", "json", "html"])
def test_every_format_ends_with_one_line_break(file_format: str) -> None:
    text = GRID.render(file_format)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


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
    body = to_latex([GRID, INTERVALS.with_average(), HOSTILE])
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


def test_no_cell_of_a_csv_is_a_formula() -> None:
    grid = Grid("=1+1", [("@a",)], ["-b"], {(0, 0): Place(-0.5)}, head_names=("+head",))
    (row,) = csv.DictReader(io.StringIO(grid.to_csv()))
    assert row["'+head"] == "'@a"
    assert "'-b" in row.values()
    assert row["value"] == "-0.5"
