"""Others make a collection anew, add shard keys or indexes, while a store is open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import httpx
import numpy as np
import pytest

from intramodal.errors import Conflict, InputError, NotFound, Unsupported
from intramodal.store.base import Filter, VectorSpec
from intramodal.store.server.client import connect_memory, connect_server
from intramodal.store.server.store import ServerStore
from intramodal.types import Floats, KeyedId, PointId, ShardKey, unit_rows
from tests.faults.schedules import Clock
from tests.faults.wire import Point, WireServer

D, NAME = 16, "photos"


def rows(n: int, d: int = D, seed: int = 0) -> Floats:
    return unit_rows(np.random.default_rng(seed).normal(size=(n, d)))


class Shop:
    """A collection that somebody else changes, and a store that has used it before."""

    def __init__(self, server: WireServer, store: ServerStore) -> None:
        self.server, self.store = server, store
        self.place = f"{server.url}/collections/{NAME}"

    def remake(self, *keys: ShardKey, d: int = D, n: int = 5, **vector: Any) -> None:
        """Make the collection anew, with n points, or n under each key."""
        httpx.delete(self.place)
        config: dict[str, Any] = {"vectors": {"raw": {"size": d, "distance": "Cosine", **vector}}}
        if keys:
            config["sharding_method"] = "custom"
        httpx.put(self.place, json=config).raise_for_status()
        for key in keys:
            self.add_key(key, n=n)
        if not keys:
            points = [{"id": i, "vector": {"raw": x.tolist()}} for i, x in enumerate(rows(n, d))]
            there = {"points": points}
            httpx.put(f"{self.place}/points?wait=true", json=there).raise_for_status()

    def add_key(self, key: ShardKey, n: int = 5, first: int = 0) -> None:
        """Make a shard key and fill it."""
        httpx.put(f"{self.place}/shards", json={"shard_key": key}).raise_for_status()
        for i, x in enumerate(rows(n, seed=len(str(key)))):
            stored = Point({"raw": x}, {}, key)
            self.server.storage.points(NAME)[key, first + i] = stored

    def use(self) -> None:
        """Let the store see what there is."""
        self.ids()
        self.store.query_batch(NAME, rows(1), using="raw", k=1)

    def ids(self) -> list[PointId]:
        return [i for page in self.store.scroll(NAME, vectors=["raw"]) for i in page.ids]

    def best(self, d: int = D, k: int = 10) -> list[PointId]:
        return self.store.query_batch(NAME, rows(1, d), using="raw", k=k).ids[0]


@pytest.fixture(params=["rest", "grpc"])
def shop(server: WireServer, request: pytest.FixtureRequest) -> Iterator[Shop]:
    server.storage.clear()
    connection = connect_server(server.url, prefer_grpc=request.param == "grpc")
    with closing(connection.client):
        yield Shop(server, ServerStore(connection, retry=Clock().retry()))


KEYED: list[PointId] = [f"{key}/{i}" for key in "ab" for i in range(5)]


def _scroll(shop: Shop) -> None:
    assert shop.ids() == KEYED


def _search(shop: Shop) -> None:
    assert sorted(map(str, shop.best())) == KEYED


def _retrieve(shop: Shop) -> None:
    with pytest.raises(InputError, match="has the id 3 under the shard keys 'a', 'b'"):
        shop.store.retrieve(NAME, [3])
    assert shop.store.retrieve(NAME, ["b/3"]).ids == ["b/3"]


def _count(shop: Shop) -> None:
    assert shop.store.count(NAME, Filter(ids=["a/3", "b/3"])) == 2


def _write(shop: Shop) -> None:
    shop.store.upsert(NAME, ["b/3"], {"raw": rows(1)}, [{"mine": True}])
    points = shop.server.storage.points(NAME)
    assert (points["a", 3].payload, points["b", 3].payload) == ({}, {"mine": True})


def _update(shop: Shop) -> None:
    with pytest.raises(InputError, match="has the id 3 under the shard keys 'a', 'b'"):
        shop.store.update_vectors(NAME, "raw", [3], rows(1))
    shop.store.update_vectors(NAME, "raw", ["b/3"], rows(1))
    shop.store.set_payload(NAME, ["b/3"], {"mine": True})
    assert shop.server.storage.points(NAME)["b", 3].payload == {"mine": True}


@pytest.mark.parametrize("use", [_scroll, _search, _retrieve, _count, _write, _update])
def test_a_plain_collection_that_was_made_anew_with_shard_keys_is_seen_as_such(
    shop: Shop, use: Callable[[Shop], None]
) -> None:
    shop.remake()
    shop.use()
    shop.remake("a", "b")
    use(shop)


def test_a_collection_with_shard_keys_that_was_made_anew_without_is_seen_as_such(
    shop: Shop,
) -> None:
    uses: list[Callable[[], Any]] = [
        lambda: shop.ids() == [0, 1, 2],
        lambda: sorted(map(int, shop.best())) == [0, 1, 2],
        lambda: shop.store.retrieve(NAME, [2, 7]).ids == [2],
        lambda: shop.store.count(NAME, Filter(ids=[1, 2])) == 2,
        lambda: shop.store.upsert(NAME, [7], {"raw": rows(1)}, [{}]) is None,
        lambda: shop.store.update_vectors(NAME, "raw", [2], rows(1)) is None,
        lambda: shop.store.delete(NAME, [2]) is None and shop.store.count(NAME) == 2,
    ]
    for use in uses:
        shop.remake("a")
        shop.use()
        shop.remake(n=3)
        assert use()


def test_a_shard_key_that_was_added_is_searched_read_and_written_to(shop: Shop) -> None:
    shop.remake("a", "b")
    shop.use()
    shop.add_key("late", first=100)
    assert "late/100" in shop.best(k=15)
    shop.add_key("later", first=200)
    assert shop.store.retrieve(NAME, ["later/200", 201]).ids == ["later/200", 201]
    shop.add_key("last")
    shop.store.upsert(NAME, [KeyedId("last", 9)], {"raw": rows(1)}, [{}])
    assert ("last", 9) in shop.server.storage.points(NAME)
    shop.add_key("at last", first=300)
    with pytest.raises(InputError, match="has the id 0 under the shard keys 'a', 'b', 'last'"):
        shop.store.delete(NAME, [0])
    shop.store.delete(NAME, [300])
    assert ("at last", 300) not in shop.server.storage.points(NAME)


def test_a_collection_that_was_made_anew_with_another_size_is_searched_and_written(
    shop: Shop,
) -> None:
    for size in (24, 8):
        shop.remake()
        shop.use()
        shop.remake(d=size)
        assert len(shop.best(d=size)) == 5
        shop.remake()
        assert len(shop.ids()) == 5
        shop.use()
        shop.remake(d=size)
        shop.store.upsert(NAME, [50], {"raw": rows(1, size)}, [{}])
        shop.store.update_vectors(NAME, "raw", [50], rows(1, size))
        assert shop.store.count(NAME) == 6
    with pytest.raises(InputError, match="24"):
        shop.best(d=24)


def test_scores_of_another_distance_are_ranked_by_it(shop: Shop) -> None:
    shop.remake()
    shop.use()
    shop.remake(distance="Euclid")
    best = shop.best(k=3)
    gaps = np.linalg.norm(rows(5) - rows(1), axis=1)
    assert best == np.argsort(gaps)[:3].tolist()


def test_a_payload_index_that_was_made_under_strict_mode_is_used(shop: Shop) -> None:
    shop.remake()
    shop.store.set_payload(NAME, [1, 2], {"year": "2001"})
    limits = {"enabled": True, "unindexed_filtering_retrieve": False}
    httpx.patch(shop.place, json={"strict_mode_config": limits}).raise_for_status()
    where = Filter({"year": "2001"})

    def found() -> list[PointId]:
        hits = shop.store.query_batch(NAME, rows(1), using="raw", k=5, where=where)
        return sorted(map(int, hits.ids[0]))

    with pytest.raises(Unsupported, match="without an index"):
        found()
    index = {"field_name": "year", "field_schema": "keyword"}
    httpx.put(f"{shop.place}/index?wait=true", json=index).raise_for_status()
    assert found() == [1, 2]
    httpx.delete(f"{shop.place}/index/year?wait=true")
    with pytest.raises(Unsupported, match="without an index"):
        found()


def test_a_strict_mode_that_was_switched_on_and_off_is_kept_to(shop: Shop) -> None:
    shop.remake()
    shop.use()
    for is_on in (True, False):
        limits = {"enabled": is_on, "max_query_limit": 3}
        httpx.patch(shop.place, json={"strict_mode_config": limits}).raise_for_status()
        if is_on:
            with pytest.raises(Unsupported, match="at most 3 results per query, and k is 5"):
                shop.best(k=5)
        else:
            assert len(shop.best(k=5)) == 5


def test_a_collection_made_anew_with_keys_under_a_scroll_is_a_conflict(shop: Shop) -> None:
    shop.remake()
    pages = shop.store.scroll(NAME, batch_size=2)
    assert next(pages).ids == [0, 1]
    shop.remake("a", "b")
    with pytest.raises(Conflict, match="was made anew by somebody else"):
        list(pages)


def test_a_request_that_is_refused_for_good_is_repeated_only_where_something_differs(
    shop: Shop,
) -> None:
    shop.remake()
    shop.use()
    asked: list[tuple[str, str]] = []
    shop.server.before = lambda method, path: asked.append((method, path))
    try:
        with pytest.raises(NotFound):
            shop.store.update_vectors(NAME, "raw", [99], rows(1))
        assert len(asked) == 2, asked  # the update and a look
        asked.clear()
        shop.use()
        assert len(asked) == 2, asked  # a page and a search
    finally:
        shop.server.before = lambda method, path: None


def test_a_collection_in_memory_that_was_made_anew_is_used_as_it_is() -> None:
    connection = connect_memory()
    mine, theirs = ServerStore(connection), ServerStore(connection)
    mine.create(NAME, {"raw": VectorSpec(D)})
    mine.upsert(NAME, [1], {"raw": rows(1)}, [{}])
    theirs.drop(NAME)
    theirs.create(NAME, {"raw": VectorSpec(8)})
    mine.upsert(NAME, [1], {"raw": rows(1, 8)}, [{}])
    assert mine.query_batch(NAME, rows(1, 8), using="raw", k=3).ids == [[1]]
