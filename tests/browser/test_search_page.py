"""The page of pictures of `intramodal search --html`, in a real browser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.browser import chromium
from tests.cli.kit import make_photos, run
from tests.unit.reports.sample import EMOJI, HOSTILE, RIGHT_TO_LEFT

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium.find() is None, reason="chromium is not installed"),
]

PATHS = ["with spaces & <b>.png", "línea\nnueva.png", f"{RIGHT_TO_LEFT}.png", "x" * 10_000]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a page about points whose labels and paths try to break out."""
    folder = tmp_path_factory.mktemp("search page")
    rng = np.random.default_rng(7)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for n, name in enumerate(PATHS[:3]):
            color = (80 * n, 200 - 60 * n, 90)
            Image.new("RGB", (90 + 60 * n, 120), color).save(folder / name)
        kinds = [HOSTILE, RIGHT_TO_LEFT, EMOJI, "x" * 10_000]
        ids, _, _ = make_photos(rng, label="label", kinds=kinds, paths=PATHS)
        found = run("search", "photos", "--id", ids[0], "--html", "page.html", "-k", "12")
    assert found["html"] == "page.html"
    shown = [hit for hits in found["vectors"].values() for hit in hits if hit["path"] in PATHS[:3]]
    assert found["n_pictures"] == len(shown)
    return folder / "page.html"


@pytest.fixture(scope="module")
def seen(page: Path, tmp_path_factory: pytest.TempPathFactory) -> chromium.Visit:
    return chromium.visit(page, tmp_path_factory.mktemp("visit"))


def test_the_page_asks_nobody_for_anything_and_has_no_error(seen: chromium.Visit) -> None:
    assert seen.requested == []
    assert seen.console == []


def test_labels_and_paths_are_text(seen: chromium.Visit) -> None:
    assert "<script" not in seen.dom
    assert "&lt;script&gt;" in seen.dom
    assert "with spaces &amp; &lt;b&gt;.png" in seen.dom
    assert RIGHT_TO_LEFT in seen.dom
    assert "x" * 500 not in seen.dom


def test_both_rankings_are_beside_each_other(seen: chromium.Visit) -> None:
    assert seen.dom.index("<h2>raw</h2>") < seen.dom.index("<h2>pca</h2>")
    assert seen.dom.count("<li") == 2 * 12
    assert "pca: –" in seen.dom
    assert "raw: 1<" in seen.dom


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_is_painted_in_both_themes(page: Path, tmp_path: Path, width: int) -> None:
    light, dark = (
        Image.open(chromium.screenshot(page, tmp_path, width=width, dark=is_dark)).convert("L")
        for is_dark in (False, True)
    )
    assert light.getpixel((2, 2)) > 200
    assert dark.getpixel((2, 2)) < 60
    assert len(light.getcolors(256)) > 30
