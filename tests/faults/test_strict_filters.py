"""Under strict mode a filter means the same points as without it, whatever indexes there are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from intramodal.ingest.backfill.in_place import backfill, recompute
from intramodal.ingest.backfill.plan import plan_recompute
from intramodal.projection.projection import Projection
from intramodal.store.base import Filter, Store
from intramodal.store.collection import ImageCollection
from intramodal.store.filters import parse_filter
from intramodal.store.server.client import connect_server
from intramodal.store.server.store import ServerStore
from intramodal.types import Floats, unit_rows
from tests.faults.schedules import ORIGIN, Clock
from tests.faults.wire import WireServer

DIM = 8
UNINDEXED: dict[str, Any] = {"unindexed_filtering_retrieve": False}


def store_of(server: WireServer) -> ServerStore:
    return ServerStore(connect_server(server.url), retry=Clock().retry())


def rows(n: int) -> Floats:
    return unit_rows(np.random.default_rng(1).normal(size=(n, DIM)))


def projection() -> Projection:
    return Projection(np.eye(DIM, 4, dtype=np.float32), "pca", *_ENCODER)


_ENCODER = (ORIGIN.encoder, ORIGIN.encoder_fingerprint)


def found_by(store: Store, where: Filter) -> list[Any]:
    return [point for page in store.scroll("photos", where=where) for point in page.ids]


def set_strict(server: WireServer, strict: dict[str, Any]) -> ServerStore:
    """Limit a collection; returns a store that has not seen it before."""
    limits = models.StrictModeConfig(enabled=True, **strict)
    server.storage.update("photos", models.UpdateCollection(strict_mode_config=limits))
    return store_of(server)


STRICT: list[dict[str, Any]] = [
    UNINDEXED,
    {"filter_max_conditions": 1},
    {"condition_max_size": 1, "filter_max_conditions": 2},
]
MIXED: list[dict[str, Any]] = [
    *({"year": year} for year in (2001, "2001", 2001.0, [2001, 5], 2002)),
    *({"a": {"b": "x"}}, {"a.b": "x"}, {"a.b": "y", "a": {"b": "x"}}),
    *({"f": True}, {"f": "true"}),
]


INDEXES = [
    *("integer year", "float year", "keyword year"),
    *("none year", "keyword a.b", "bool f"),
]
ASKED = {"year": ("year=2001", 4), "a.b": ("a.b=x", 3), "f": ("f=true", 2)}


@pytest.mark.parametrize("strict", STRICT, ids=str)
@pytest.mark.parametrize("index", INDEXES)
def test_a_filter_means_the_same_points_whatever_index_there_is(
    index: str, strict: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Values of several types, of which an index holds one, and a field of two readings."""
    kind, name = index.split()
    text, n_expected = ASKED[name]
    where, n = parse_filter([text]), len(MIXED)
    with WireServer() as server:
        there = store_of(server)
        photos = ImageCollection.create(there, "photos", {"raw": (DIM, ORIGIN)})
        photos.write(list(range(n)), {"raw": rows(n)}, MIXED)
        found = server.storage.collections["photos"]
        expected = found_by(there, where)
        if kind != "none":
            found.indexes[name] = models.PayloadSchemaType(kind)
        there = set_strict(server, strict)
        assert found_by(there, where) == expected
        assert len(expected) == there.count("photos", where) == n_expected
    told = "read and compared here" in caplog.text
    assert told is (name == "year" or strict != STRICT[2])  # others are of two conditions


def test_a_recomputation_does_what_its_dry_run_says(caplog: pytest.LogCaptureFixture) -> None:
    """The review of issue 18: 60 points of 2001, 40 of "2001", and an index made of integers."""
    where, n = parse_filter(["year=2001"]), 20
    with WireServer() as server:
        photos = ImageCollection.create(store_of(server), "photos", {"raw": (DIM, ORIGIN)})
        payloads = [{"year": 2001 if i < 12 else "2001"} for i in range(n)]
        photos.write(list(range(n)), {"raw": rows(n)}, payloads)
        backfill(photos, projection())
        photos = ImageCollection.open(set_strict(server, UNINDEXED), "photos")
        assert plan_recompute(photos, projection(), where=where).n_matching == n
        assert recompute(photos, projection(), where=where).projected == n
        assert plan_recompute(photos, projection(), where=where).n_matching == n
        assert not server.storage.collections["photos"].indexes
    assert caplog.text.count("read and compared here") == 1


def test_a_search_says_once_which_points_its_index_does_not_find(
    caplog: pytest.LogCaptureFixture,
) -> None:
    n = len(MIXED)
    with WireServer() as server:
        photos = ImageCollection.create(store_of(server), "photos", {"raw": (DIM, ORIGIN)})
        photos.write(list(range(n)), {"raw": rows(n)}, MIXED)
        server.storage.collections["photos"].indexes["year"] = models.PayloadSchemaType.INTEGER
        photos = ImageCollection.open(set_strict(server, UNINDEXED), "photos")
        for _ in range(2):
            found = photos.search(rows(3), using="raw", k=2, where=parse_filter(["year=2001"]))
    assert [sorted(ids) for ids in found.ids] == [[0, 3]] * 3
    sentence = "searches do not find points whose 'year' is the text '2001' or the number 2001.0"
    assert caplog.text.count(sentence) == 1
