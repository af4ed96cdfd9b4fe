"""Samples of large collections are drawn from slices, where a server has them and lets them be."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from intramodal.errors import Unsupported
from intramodal.ingest.backfill.points import sample_ids
from intramodal.store import collection as collections
from intramodal.store.base import Filter, Page, Slice, Store
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.store.open import open_store
from intramodal.store.samples import draw_ids
from intramodal.types import PointId, point_id, unit_rows
from tests.faults.test_shard_keys import KEYS, Tenants, filled, limited
from tests.faults.test_shard_keys import NAME as TENANTS
from tests.faults.test_streams import opened
from tests.faults.wire import WireServer

NAME, N, D = "photos", 3000, 4
IDS: list[PointId] = [*range(N // 2), *(point_id(NAME, f"{i}.jpg") for i in range(N // 2))]
X = unit_rows(np.random.default_rng(15).normal(size=(N, D)))
BLUE = Filter({"colour": "blue"})
"""A third of the points."""


class Journal(WireServer):
    """A stand-in that keeps what it is asked by REST."""

    def __init__(self, version: str = "1.19.0") -> None:
        super().__init__(version=version)
        self.scrolls: list[dict[str, Any]] = []
        self.n_exact_counts = 0

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Any:
        if "/points/scroll" in target:
            self.scrolls.append(json.loads(body))
        if "/points/count" in target:
            self.n_exact_counts += json.loads(body)["exact"]
        return super().answer(method, target, headers, body)

    @property
    def n_slices(self) -> int:
        return sum("slice" in json.dumps(asked) for asked in self.scrolls)


@pytest.fixture(autouse=True)
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collections, "MANY_POINTS", 1000)


@contextmanager
def served(version: str = "1.19.0", **strict: Any) -> Iterator[tuple[Journal, ImageCollection]]:
    """Yield a server with the photos, under limits of strict mode, and the collection."""
    with Journal(version) as server:
        with open_store(server.url) as store:
            fill(store)
        if strict:
            config = models.StrictModeConfig(enabled=True, **strict)
            server.storage.update(NAME, models.UpdateCollection(strict_mode_config=config))
        server.scrolls.clear()
        with open_store(server.url) as store:
            yield server, ImageCollection.open(store, NAME)


def fill(store: Store) -> None:
    made = ImageCollection.create(store, NAME, {"raw": (D, VectorOrigin("clip", "3f9a"))})
    made.write(IDS, {"raw": X}, [{"colour": ["red", "green", "blue"][i % 3]} for i in range(N)])


def from_all(n: int, where: Filter | None = None) -> list[PointId]:
    """Return the sample that is drawn from all ids."""
    ids = IDS if where is None else IDS[2::3]
    return draw_ids([Page(ids, {}, [])], n, seed=1)[0]


@pytest.mark.parametrize("where", [None, BLUE], ids=str)
def test_a_sample_reads_a_few_slices_and_counts_nothing(where: Filter | None) -> None:
    with served() as (server, photos):
        table = photos.table(["raw"], payload=["colour"], where=where, sample=20, seed=1)
        assert (len(table), table.is_drawn_from_about, server.n_exact_counts) == (20, True, 0)
        n_there = N if where is None else N // 3
        tolerance = 0 if where is None else 4 / np.sqrt(8 * 20)  # the server's; 4 sigma
        assert table.drawn_from == pytest.approx(n_there, rel=tolerance)
        assert server.n_slices == len(server.scrolls) > 1
        rows = [IDS.index(i) for i in table.ids]
        np.testing.assert_allclose(table.vectors["raw"], X[rows], atol=1e-6)
        assert where is None or set(table.payload["colour"]) == {"blue"}
        assert table.ids != from_all(20, where)
        larger = photos.table(["raw"], where=where, sample=60, seed=1)
        assert set(table.ids) < set(larger.ids)
        server.scrolls.clear()
        assert photos.draw(20, seed=1, where=where) == (table.ids, table.drawn_from, True)
        assert server.n_slices == len(server.scrolls) < 10  # a page each


def test_the_ids_that_are_read_are_few() -> None:
    n_read = 0
    with served() as (_, photos):
        scroll = photos.store.scroll

        def counted(*args: Any, **kw: Any) -> Iterator[Page]:
            nonlocal n_read
            for page in scroll(*args, **kw):
                n_read += len(page.ids)
                yield page

        photos.store.scroll = counted  # type: ignore[method-assign]
        photos.draw(20, seed=1)
        assert 100 < n_read < N // 4


def test_it_is_the_same_sample_over_grpc_and_whatever_the_estimate_says() -> None:
    with served() as (_, photos):
        drawn = photos.draw(20, seed=1)
        photos._described = replace(photos.described, n_points=1001)
        assert photos.draw(20, seed=1)[0] == drawn[0]
    with WireServer(speaks_grpc=True) as server, opened(server.url, grpc=True) as store:
        fill(store)
        assert ImageCollection.open(store, NAME).draw(20, seed=1) == drawn


@pytest.mark.parametrize(
    ("version", "strict"),
    [
        ("1.18.3", {}),
        ("1.19.0", {"filter_max_conditions": 1}),
        ("1.19.0", {"unindexed_filtering_retrieve": False}),
    ],
    ids=str,
)
def test_where_slices_cannot_be_sent_all_ids_are_read(
    version: str, strict: dict[str, Any]
) -> None:
    with served(version, **strict) as (server, photos):
        table = photos.table(["raw"], where=BLUE, sample=20, seed=1)
        assert (table.ids, table.drawn_from) == (from_all(20, BLUE), N // 3)
        assert not table.is_drawn_from_about
        assert server.n_slices == 0


def test_without_a_filter_strict_mode_has_room_for_a_slice() -> None:
    with served(
        filter_max_conditions=1, unindexed_filtering_retrieve=False, search_allow_exact=False
    ) as (server, photos):
        assert len(photos.table(["raw"], sample=20).ids) == 20
        assert server.n_slices


def test_a_small_collection_a_large_sample_and_named_points_are_read_as_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with served() as (server, photos):
        assert photos.draw(N, seed=1) == (sorted(IDS, key=str), N, False)
        assert photos.draw(5, seed=1, where=Filter(ids=IDS[:9]))[1] == 9
        monkeypatch.setattr(collections, "MANY_POINTS", N + 1)
        assert photos.draw(20, seed=1) == (from_all(20), N, False)
        assert server.n_slices == 0
        monkeypatch.setattr(collections, "MANY_POINTS", N)
        assert photos.draw(N // 4, seed=1) == (
            from_all(N // 4),
            N,
            False,
        )  # of slices, yet the same
        assert server.n_slices


def test_a_check_of_some_vectors_draws_from_slices_too() -> None:
    with served() as (server, photos):
        ids = sample_ids(photos, 20, 1, Filter(has_vector="raw"))
        assert ids == sample_ids(photos, 20, 1, Filter(has_vector="raw"))
        assert len(set(ids)) == 20
        assert server.n_slices == len(server.scrolls)
        assert server.n_exact_counts == 0


def test_of_shards_with_keys_both_points_of_an_id_may_be_drawn() -> None:
    tenants = Tenants.of(1000, 16)
    with WireServer() as server:
        filled(server, tenants)
        with open_store(server.url) as store:
            photos = ImageCollection.open(store, TENANTS)
            table = photos.table(["raw"], sample=40, seed=2)
            assert (len(set(table.ids)), table.drawn_from) == (40, 2000)
            assert {point.partition("/")[0] for point in map(str, table.ids)} == {"7", "acme"}
            one = ImageCollection.open(limited(store, KEYS[0]), TENANTS)
            assert len(one.table(["raw"], sample=40, seed=2)) == 40


@pytest.mark.parametrize("place", ["edge", ":memory:"])
def test_other_stores_have_no_slices(place: str, tmp_path: Path) -> None:
    with open_store(str(tmp_path / "store") if place == "edge" else place) as store:
        fill(store)
        photos = ImageCollection.open(store, NAME)
        assert photos.draw(20, seed=1) == (from_all(20), N, False)
        if place == "edge":
            with pytest.raises(Unsupported, match="no slices"):
                list(photos.scroll(where=Filter(slice=Slice(4, 1))))
