"""The page of a table of the paper, as wide as the paper's widest."""

from __future__ import annotations

from pathlib import Path

import pytest

from intramodal.paper.base import DataSet, Method, Model, Table, chosen
from intramodal.paper.layouts import Choice
from intramodal.reports.grid import Grid, Place, render_grids
from tests.browser import chromium

pytestmark = [
    pytest.mark.skipif(chromium.find() is None, reason="chromium is not installed"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return table 3 with the paper's own figures as ours, in all its columns."""
    (table,) = chosen("tables", Table, ["table3"])
    choice = Choice(
        chosen("datasets", DataSet, table.datasets),
        chosen("models", Model, table.models),
        chosen("methods", Method, table.methods),
    )
    (layout,) = table.layouts(choice)
    places = {at: Place(e.published, e.published) for at, e in layout.entries.items()}
    grid = Grid(
        layout.title,
        layout.row_heads,
        layout.column_heads,
        places,
        head_names=layout.head_names,
        notes=["a note with " + "a/very/long/path" * 20],
        banner="A quick look",
    )
    path = tmp_path_factory.mktemp("grid") / "table3.html"
    render_grids([grid], path, title=table.title, about=[table.about], command="intramodal")
    return path


@pytest.mark.parametrize("width", [1280, 500])
def test_nothing_of_the_widest_table_is_cut_off(page: Path, tmp_path: Path, width: int) -> None:
    # Headless Chromium makes no window below 500 pixels; a phone has the same layout.
    assert chromium.overflow(page, tmp_path, width=width) <= 0


def test_an_overflow_would_be_noticed(tmp_path: Path) -> None:
    page = tmp_path / "wide.html"
    page.write_text("<body><div style='width: 3000px'>x</div></body>", encoding="utf-8")
    assert chromium.overflow(page, tmp_path, width=1280) > 1000


def test_the_page_asks_nobody_and_its_console_stays_empty(page: Path, tmp_path: Path) -> None:
    seen = chromium.visit(page, tmp_path)
    assert (seen.requested, seen.console) == ([], [])
