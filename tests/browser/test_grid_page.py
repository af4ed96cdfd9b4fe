"""A page of tables in a browser: all of it is seen, wide or narrow."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

from intramodal.reports.grid import Grid, Place, render_grids
from tests.browser import chromium

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium.find() is None, reason="chromium is not installed"),
]

DATASETS = (
    *("ImageNet", "Caltech101", "OxfordPets", "StanfordCars", "Flowers102", "Food101"),
    *("FGVCAircraft", "EuroSAT", "UCF101", "DTD", "SUN397"),
)
HEADS = [
    (model, method)
    for model in ("CLIP B/32", "SigLIP2 B/16", "<script>" * 5)
    for method in ("Original ⟨I,I⟩", "PCA← ⟨I←,I←⟩")
]
FAILED = Place(None, 47.7, state="failed", reason="/data/" + "x" * 300 + " is missing")

MEASURE = """<script>
const boxes = [document.documentElement, ...document.querySelectorAll('.scroll')];
const beyond = boxes.map(box => box.scrollWidth - box.clientWidth).join(' ');
document.title = innerWidth + ' wide, cut off ' + beyond;
</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    places = {
        (row, column): Place(10.0 * row + column, 12.0)
        for row in range(len(HEADS))
        for column in range(len(DATASETS))
    }
    grid = Grid(
        "Table 3",
        HEADS,
        DATASETS,
        {**places, (1, 3): FAILED},
        head_names=("model", "method"),
        banner="A quick look at 5 images",
    ).with_average()
    path = tmp_path_factory.mktemp("grid") / "table.html"
    render_grids([grid], path, title="Tables", command="intramodal reproduce table3")
    return path


def test_the_page_asks_nobody_for_anything_and_has_no_error(page: Path, tmp_path: Path) -> None:
    seen = chromium.visit(page, tmp_path)
    assert (seen.requested, seen.console) == ([], [])
    assert "<script" not in seen.dom


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_cut_off(page: Path, tmp_path: Path, width: int) -> None:
    text = re.sub("<meta http-equiv=[^>]*>", "", page.read_text(encoding="utf-8"))
    inside = html.escape(text.replace("</body>", f"{MEASURE}</body>"))
    # A frame: a window is never narrower than 500 px.
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<iframe style="border: 0; width: {width}px; height: 900px" srcdoc="{inside}" '
        'onload="document.title = frames[0].document.title"></iframe>',
        encoding="utf-8",
    )
    dom = chromium.visit(frame, tmp_path).dom
    assert re.findall("<title>.*?</title>", dom) == [f"<title>{width} wide, cut off 0 0</title>"]
