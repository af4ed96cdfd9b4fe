"""A server that cannot add a vector: everything is copied, and clients are switched by alias."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from intramodal import ImageCollection
from intramodal.store.base import VectorSpec
from intramodal.types import unit_rows
from tests.cli.kit import run
from tests.integration.conftest import enter
from tests.integration.servers import Qdrant
from tests.integration.shop import BACKFILL, MODEL, PROJECTION, Shop, fit, ingest

N = 800
COPY = (*BACKFILL, "--new-collection", "shop_v2")
FIELDS = ("--labels", "kind", "--no-controls")


@pytest.fixture
def server(old_qdrant: Qdrant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Qdrant:
    enter(old_qdrant, tmp_path, monkeypatch)
    Shop.of(N).save()
    fit()
    return old_qdrant


def test_adding_a_vector_is_refused_with_the_way_that_is_open(server: Qdrant) -> None:
    ingest()
    error = run(*BACKFILL, code=1)["error"]
    assert error["type"] == "Unsupported"
    assert "--new-collection" in error["message"]
    with server.store() as store:
        assert set(store.info("shop").vectors) == {"raw"}


def test_a_copy_is_filled_switched_judged_and_undone(server: Qdrant) -> None:
    ingest()
    with server.store() as store:
        store.set_alias("shown", "shop")
        store.ensure_index("shop", "kind", "keyword")
    run(*COPY, "--dry-run")
    with server.store() as store:
        assert store.collections() == ["shop"]
    done = run(*COPY)
    assert (done["copied"], done["projected"], done["aliases"]) == (N, N, ["shown"])
    assert run(*COPY)["copied"] == 0
    with server.store() as store:
        assert store.aliases() == {"shown": "shop_v2"}
        assert store.info("shop_v2").indexes == store.info("shop").indexes
        old = ImageCollection.open(store, "shop").table(["raw"], payload=["kind"])
        new = ImageCollection.open(store, "shown").table(["raw", "pca"], payload=["kind"])
    assert (new.ids, new.payload) == (old.ids, old.payload)
    np.testing.assert_array_equal(new.vectors["raw"], old.vectors["raw"])
    assert run("compare", "shown", *FIELDS)["fields"]["kind"]["verdict"] == "better"
    run("backfill", "shop_v2", "--rollback")
    with server.store() as store:
        assert store.aliases() == {"shown": "shop"}


def test_an_unnamed_vector_of_a_foreign_collection_is_copied_as_raw(server: Qdrant) -> None:
    X = unit_rows(np.load("X.npy"))
    with server.store() as store:
        store.create("shop", {"": VectorSpec(X.shape[1])})
        store.upsert("shop", range(N), {"": X}, [{"kind": f"k{i % 5}"} for i in range(N)])
    place = ("shop", "--from", "", "--to", "pca", "--projection", PROJECTION)
    run("backfill", *place, "--made-by", MODEL, "--new-collection", "shop_v2")
    with server.store() as store:
        table = ImageCollection.open(store, "shop_v2").table(["raw", "pca"])
    assert len(table) == N
    np.testing.assert_array_equal(table.vectors["raw"], X[table.ids])


def test_points_are_ingested_with_both_vectors_from_the_start(server: Qdrant) -> None:
    ingest("--projection", PROJECTION)
    fields = run("compare", "shop", "--vectors", "raw,pca_names", *FIELDS)["fields"]
    assert fields["kind"]["verdict"] == "better"
