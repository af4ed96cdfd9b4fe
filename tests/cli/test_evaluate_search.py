"""`intramodal evaluate index` and `evaluate text`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from intramodal.workflows.evaluate.index import parse_search
from tests.cli.evaluated import N, invoke, make_shop, pictures, run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(autouse=True)
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def test_every_search_is_judged_beside_the_exact_ranking() -> None:
    found = run(
        *("index", "photos", "--labels", "kind", "-k", "15", "--timed", "3"),
        *("--searches", "raw,pca,pca:raw,raw+pca"),
    )
    exact = run("retrieval", "photos", "--labels", "kind", "--vectors", "raw,pca")
    maps = {name: row["map"] for name, row in exact["fields"]["kind"]["vectors"].items()}
    rows = {row["search"]: row for row in found["rows"]}
    assert list(rows) == ["raw", "pca", "pca > raw", "raw + pca"]
    for name in ("raw", "pca"):
        low, high = rows[name]["map_interval"]
        # So few points are searched exactly; ties apart, the interval holds the exact figure.
        assert low - 1e-6 <= rows[name]["exact_map"] == maps[name] <= high + 1e-6
        assert rows[name]["map_at_k"] <= low
        assert rows[name]["recall"] == 1
    assert rows["pca > raw"]["exact_map"] == maps["raw"]
    assert rows["raw + pca"]["exact_map"] is None
    assert rows["raw + pca"]["recall"] is None
    assert rows["raw"]["latency_ms"]["n"] == 3


def test_the_gallery_is_filtered_where_the_search_happens() -> None:
    found = run(
        *("index", "photos", "--labels", "kind", "--searches", "raw", "-k", "10"),
        *("--gallery", "split=train", "--queries", "split=test", "--exact"),
    )
    (row,) = found["rows"]
    n_queries = pictures().payload["split"].count("test")
    assert (row["n_queries"], row["n_outside"], row["recall"]) == (n_queries, 0, 1)


@pytest.mark.parametrize("text", ["", "raw:", "+pca", "a:b+c", "a+b:c"])
def test_a_search_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="in two stages"):
        parse_search(text)


def test_the_names_of_the_classes_ask_for_their_images() -> None:
    table = pictures()
    kinds = sorted(set(table.payload["kind"]))
    means = [
        table.vectors["raw"][[kind == k for kind in table.payload["kind"]]].mean(axis=0)
        for k in kinds
    ]
    np.save("kinds.npy", np.asarray(means, dtype=np.float32))
    found = run("text", "photos", "--labels", "kind", "--text-vectors", "kinds.npy")
    row = found["fields"]["kind"]
    assert (row["n_classes"], row["n_gallery"]) == (len(kinds), N)
    assert row["map"] > 0.4  # by chance a sixth
    assert list(row["classes"]) == kinds
    told = invoke("text", "photos", "--labels", "kind", "--text-vectors", "kinds.npy").output
    assert "texts against images" in told


def test_texts_on_a_projected_vector_need_its_projection() -> None:
    np.save("kinds.npy", np.ones((6, 16), dtype=np.float32))
    arguments = ("text", "photos:pca", "--labels", "kind", "--text-vectors", "kinds.npy")
    found = run(*arguments, code=1)
    assert "--projection" in found["error"]["message"]
