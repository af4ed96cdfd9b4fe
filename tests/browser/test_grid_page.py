"""The page of a table of the paper, as wide as the paper's widest, and of one's own data sets."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

from intramodal.paper.base import DataSet, Method, Model, Table, chosen
from intramodal.paper.layouts import Choice
from intramodal.reports.grid import Grid, Place, render_grids
from tests.browser import chromium

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium.find() is None, reason="chromium is not installed"),
]

LONG = (
    *("ROxford", "RParis", "ImageNet", "Caltech101", "OxfordPets", "StanfordCars"),
    *("Flowers102", "Food101", "FGVCAircraft", "EuroSAT", "UCF101", "DTD", "SUN397"),
)
MEASURE = """<script>
const boxes = [document.documentElement, ...document.querySelectorAll('.scroll')];
const beyond = boxes.map(box => box.scrollWidth - box.clientWidth).join(' ');
document.title = innerWidth + ' wide, cut off ' + beyond;
</script>"""


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


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return fourteen columns with long names, a failed place and heads that try to break out."""
    heads = [(model, method) for model in ("CLIP B/32", "<script>" * 5) for method in ("raw", "p")]
    columns = range(len(LONG))
    places = {(row, n): Place(10.0 * row + n, 12.0) for row in range(4) for n in columns}
    places[1, 3] = Place(None, 47.7, state="failed", reason="/data/" + "x" * 300)
    grid = Grid("Own", heads, LONG, places, head_names=("model", "method")).with_average()
    path = tmp_path_factory.mktemp("own") / "table.html"
    render_grids([grid], path, title="Own")
    return path


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_of_long_names_is_cut_off(own: Path, tmp_path: Path, width: int) -> None:
    text = re.sub("<meta http-equiv=[^>]*>", "", own.read_text(encoding="utf-8"))
    inside = html.escape(text.replace("</body>", f"{MEASURE}</body>"))
    # In a frame: a window is never narrower than 500 px.
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<iframe style="border: 0; width: {width}px; height: 900px" srcdoc="{inside}" '
        'onload="document.title = frames[0].document.title"></iframe>',
        encoding="utf-8",
    )
    dom = chromium.visit(frame, tmp_path).dom
    assert re.findall("<title>.*?</title>", dom) == [f"<title>{width} wide, cut off 0 0</title>"]


def test_heads_are_text(own: Path, tmp_path: Path) -> None:
    assert "<script" not in chromium.visit(own, tmp_path).dom
