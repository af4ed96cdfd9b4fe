"""The report in a real browser: it opens offline, asks nobody for anything, and fits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from intramodal.reports.report import render_report
from tests.browser import chromium
from tests.unit.reports.sample import HOSTILE, document

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium.find() is None, reason="chromium is not installed"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report with spaces.html"
    render_report([document()], path)
    return path


@pytest.fixture(scope="module")
def seen(report: Path, tmp_path_factory: pytest.TempPathFactory) -> chromium.Visit:
    return chromium.visit(report, tmp_path_factory.mktemp("visit"))


def test_the_page_asks_nobody_for_anything(seen: chromium.Visit) -> None:
    assert seen.requested == []


def test_a_page_that_does_ask_would_be_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text('<img src="http://pictures.invalid/1.png"><script>nothing()</script>')
    noticed = chromium.visit(page, tmp_path)
    assert noticed.requested == ["http://pictures.invalid/1.png"]
    assert any("nothing is not defined" in line for line in noticed.console)


def test_the_console_stays_empty(seen: chromium.Visit) -> None:
    assert seen.console == []


def test_hostile_labels_are_text(seen: chromium.Visit) -> None:
    assert seen.dom.count("<script") == 1  # the page's own
    assert HOSTILE.replace("<", "&lt;").replace(">", "&gt;") in seen.dom


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_is_painted_in_both_themes(report: Path, tmp_path: Path, width: int) -> None:
    """Light is light and dark is dark, at both widths; how it looks is for people to judge."""
    light, dark = (
        Image.open(chromium.screenshot(report, tmp_path, width=width, dark=is_dark)).convert("L")
        for is_dark in (False, True)
    )
    # A browser window has a least width on some platforms.
    assert light.size == dark.size
    corner = (2, 2)
    assert light.getpixel(corner) > 200
    assert dark.getpixel(corner) < 60
    assert len(light.getcolors(256)) > 30


def test_no_table_of_the_unfolded_report_is_wider_than_the_page(
    report: Path, tmp_path: Path
) -> None:
    page = tmp_path / "open.html"
    text = report.read_text(encoding="utf-8")
    page.write_text(text.replace("<details", "<details open"), encoding="utf-8")
    assert chromium.overflow(page, tmp_path, width=1280) <= 0


def test_the_costs_of_the_first_screen_are_whole_on_a_phone(report: Path, tmp_path: Path) -> None:
    # Headless Chromium makes no window below 500 pixels: the page is as narrow as on a phone.
    script = """
        document.body.style.width = '400px';
        const box = document.querySelector('.mini .scroll');
        for (const cell of box.querySelectorAll('td:first-child'))
            cell.textContent = 'pca_names > raw';
        document.documentElement.dataset.cut = box.scrollWidth - box.clientWidth;"""
    seen = chromium.driven(report, tmp_path, script, width=500)
    assert re.findall(r'data-cut="(-?\d+)"', seen) == ["0"]
