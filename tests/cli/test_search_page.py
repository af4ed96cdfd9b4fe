"""`intramodal search --html` without a browser: what is in the page, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from intramodal import ImageCollection, open_store, search_page
from intramodal import search as search_of
from intramodal.commands.options import DEFAULT_STORE
from intramodal.errors import InputError
from intramodal.store.base import VectorSpec
from tests.cli.kit import invoke, make_photos, run


@pytest.fixture
def ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> list[str]:
    monkeypatch.chdir(tmp_path)
    found, _, _ = make_photos(rng)
    return found


def search(point: str, *more: str, code: int = 0) -> dict[str, object]:
    found: dict[str, object] = run("search", "photos", "--id", point, *more, code=code)
    return found


def test_pictures_come_from_the_folder_that_is_named(ids: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for n in range(len(ids)):
        Image.new("RGB", (8, 8), (n, n, n)).save(folder / f"{n}.jpg")
    assert search(ids[0], "--html", "page.html")["n_pictures"] == 0
    found = search(ids[0], "--html", "page.html", "--pictures", str(folder), "-k", "7")
    assert found["n_pictures"] == 2 * 7
    page = Path("page.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/webp;base64,') == 2 * 7 + 1  # and the query
    assert "0.jpg" in page


def test_a_path_that_leads_out_of_the_folder_is_not_followed(
    ids: list[str], tmp_path: Path
) -> None:
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.jpg")
    with open_store(DEFAULT_STORE) as store:
        store.set_payload("photos", ids, {"path": "../secret.jpg"})
    assert search(ids[0], "--html", "page.html", "--pictures", "pictures")["n_pictures"] == 0


def test_a_page_without_pictures_says_how_to_get_them(ids: list[str]) -> None:
    shown = invoke("search", "photos", "--id", ids[0], "--html", "page.html")
    assert shown.exit_code == 0
    assert "page: page.html" in shown.stdout
    assert "--pictures" in shown.stderr
    page = Path("page.html").read_text(encoding="utf-8")
    assert "No images: the current folder has no file that the payload names in path" in page
    assert "a pattern such as photos/{sku}.jpg" in page


def test_a_page_that_cannot_be_written_is_one_sentence(ids: list[str]) -> None:
    result = invoke("search", "photos", "--id", ids[0], "--html", "nowhere/page.html")
    assert result.exit_code == 1
    assert "nowhere/page.html cannot be written" in result.stderr
    assert "Traceback" not in result.stderr


def test_without_a_page_nothing_is_written(ids: list[str]) -> None:
    before = set(Path.cwd().iterdir())
    found = search(ids[0])
    assert set(found) == {"collection", "vectors", "run_id"}
    assert set(Path.cwd().iterdir()) == before


def test_the_point_with_id_zero_has_a_page(tmp_path: Path, rng: np.random.Generator) -> None:
    """Zero was taken for no id at all."""
    with open_store(str(tmp_path / "store")) as store:
        store.create("shop", {"raw": VectorSpec(4)})
        X = rng.normal(size=(6, 4)).astype(np.float32)
        store.upsert("shop", list(range(6)), {"raw": X}, [{"kind": "cat"}] * 6)
        shop = ImageCollection.open(store, "shop")
        found = search_of(shop, point=0, vectors=["raw"])
        page = search_page(shop, found, point=0, label="kind")
        assert page.query.id == "0"
        with pytest.raises(InputError, match="give image, text or point"):
            search_page(shop, found)


def test_the_table_names_pictures_as_the_page_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.chdir(tmp_path)
    X = rng.normal(size=(3, 8)).astype(np.float32)
    payloads = [{"filename": "1.jpg"}, {"productTitle": "A red shoe", "sku": "s1"}, {"sku": "s2"}]
    with open_store(DEFAULT_STORE) as store:
        store.create("shop", {"raw": VectorSpec(8)})
        store.upsert("shop", [7, 8, 9], {"raw": X}, payloads)
    how = ("search", "shop", "--vectors", "raw", "--id")
    assert "1.jpg" in invoke(*how, "9").stdout
    assert "8 · A red shoe" in invoke(*how, "9").stdout
    assert " 9 " in invoke(*how, "7").stdout  # nothing but its id
    assert "s1" in invoke(*how, "9", "--picture-field", "sku").stdout
