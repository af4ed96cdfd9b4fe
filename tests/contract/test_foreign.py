"""The digest of whole points sees every number of theirs, on every store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models

from intramodal.store.base import Store, VectorSpec
from intramodal.store.open import open_store
from intramodal.store.server.client import connect_server
from intramodal.store.server.store import ServerStore
from intramodal.types import PointId, point_id
from tests.contract.foreign import (
    FOREIGN,
    add_foreign,
    digests,
    foreign_of,
    payload_of,
    points_of,
    write_point,
    write_vectors,
)
from tests.contract.store_contract import UNIT
from tests.faults.wire import WireServer
from tests.integration.servers import URL, named_qdrant

NAME = "intramodal-foreign"
IDS: list[PointId] = [0, 1, 7, point_id("foreign", "a"), point_id("foreign", "b")]
N = len(IDS)
HIT = IDS[3]
"""The point that is changed."""

needs_engine = pytest.mark.skipif(
    find_spec("qdrant_edge") is None, reason="no wheel of qdrant-edge-py for this platform"
)
STORES = [
    pytest.param("edge", marks=needs_engine),
    "memory",
    "stand-in by rest",
    "stand-in by grpc",
]
if os.environ.get(URL):
    STORES += [
        pytest.param(f"server by {protocol}", marks=pytest.mark.docker)
        for protocol in ("rest", "grpc")
    ]


@contextmanager
def opened(kind: str, folder: Path) -> Iterator[Store]:
    """Open an empty store, or a running server without our collection."""
    if kind in ("edge", "memory"):
        with open_store(":memory:" if kind == "memory" else str(folder)) as store:
            yield store
        return
    uses_grpc = kind.endswith("grpc")
    if kind.startswith("stand-in"):
        with (
            WireServer(speaks_grpc=uses_grpc) as server,
            ServerStore(connect_server(server.url, prefer_grpc=uses_grpc)) as store,
        ):
            yield store
        return
    running = named_qdrant(URL)
    assert running is not None
    with running.store(grpc=uses_grpc) as store:
        yield store
        if store.exists(NAME):
            store.drop(NAME)


def fill(store: Store) -> None:
    # Dot: the client's local mode divides by the length again at every write.
    store.create(NAME, {"raw": VectorSpec(UNIT.shape[1], "Dot")})
    store.upsert(NAME, IDS, {"raw": UNIT[:N]}, [payload_of(i) for i in range(N)])
    add_foreign(store, NAME, IDS)


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with opened(request.param, tmp_path) as store:
        fill(store)
        yield store


def changed(before: dict[PointId, str], after: dict[PointId, str]) -> set[PointId]:
    assert before.keys() == after.keys()
    return {point for point in before if before[point] != after[point]}


def vectors_of(store: Store, point: PointId) -> dict[str, Any]:
    return next(vectors for found, vectors, _ in points_of(store, NAME) if found == point)


def another(vector: Any) -> Any:
    """Return the vector with another last number, one that bytes can hold."""
    if isinstance(vector, models.SparseVector):
        return vector.model_copy(update={"values": another(vector.values)})
    *others, last = vector
    return [*others, another(last) if isinstance(last, list) else abs(last - 1.0)]


def test_all_vectors_of_every_kind_are_there(store: Store) -> None:
    found = list(points_of(store, NAME))
    assert [point for point, _, _ in found] == IDS[:3] + sorted(IDS[3:], key=str)
    for point, vectors, payload in found:
        assert set(vectors) == {"raw", *FOREIGN}
        assert payload == payload_of(IDS.index(point))
        given = foreign_of(point)
        assert (vectors["patches"], vectors["bits"]) == (given["patches"], given["bits"])
        assert vectors["words"].indices == given["words"].indices
        assert vectors["words"].values == given["words"].values


def test_two_reads_give_equal_digests(store: Store) -> None:
    first = digests(store, NAME)
    assert (set(first), len(set(first.values()))) == (set(IDS), N)
    assert digests(store, NAME) == first


@pytest.mark.parametrize("vector", ["raw", *FOREIGN])
def test_another_component_of_one_vector_changes_the_digest_of_its_point_alone(
    store: Store, vector: str
) -> None:
    before, without = digests(store, NAME), digests(store, NAME, without_vectors=[vector])
    given = foreign_of(HIT) | {"raw": vectors_of(store, HIT)["raw"]}
    write_vectors(store, NAME, {HIT: {vector: another(given[vector])}})
    assert changed(before, digests(store, NAME)) == {HIT}
    assert digests(store, NAME, without_vectors=[vector]) == without


def test_another_index_of_a_sparse_vector_changes_the_digest(store: Store) -> None:
    before, words = digests(store, NAME), foreign_of(HIT)["words"]
    indices = [*words.indices[:-1], words.indices[-1] + 1]
    moved = models.SparseVector(indices=indices, values=words.values)
    write_vectors(store, NAME, {HIT: {"words": moved}})
    assert changed(before, digests(store, NAME)) == {HIT}


def test_one_row_less_of_a_multivector_changes_the_digest(store: Store) -> None:
    before = digests(store, NAME)
    write_vectors(store, NAME, {HIT: {"patches": foreign_of(HIT)["patches"][:2]}})
    assert changed(before, digests(store, NAME)) == {HIT}


def test_another_value_deep_in_the_payload_changes_the_digest_of_its_point_alone(
    store: Store,
) -> None:
    before, without = digests(store, NAME), digests(store, NAME, without_keys=["nested"])
    nested = deepcopy(payload_of(IDS.index(HIT))["nested"])
    nested["b"]["deep"][3]["none"] = 0
    store.set_payload(NAME, [HIT], {"nested": nested})
    assert changed(before, digests(store, NAME)) == {HIT}
    assert digests(store, NAME, without_keys=["nested"]) == without


def test_the_digest_sees_that_writing_a_whole_point_loses_vectors(store: Store) -> None:
    before, without = digests(store, NAME), digests(store, NAME, without_vectors=FOREIGN)
    raw = {"raw": vectors_of(store, HIT)["raw"]}
    write_point(store, NAME, HIT, raw, payload_of(IDS.index(HIT)))
    assert set(vectors_of(store, HIT)) == {"raw"}
    assert changed(before, digests(store, NAME)) == {HIT}
    assert digests(store, NAME, without_vectors=FOREIGN) == without


def test_equal_points_have_equal_digests_in_every_store(store: Store, tmp_path: Path) -> None:
    # Engines differ in the last bit of what they normalise.
    with opened("memory", tmp_path) as other:
        fill(other)
        expected = digests(other, NAME, without_vectors=["caption"])
    assert digests(store, NAME, without_vectors=["caption"]) == expected


@needs_engine
def test_an_edge_store_opens_again_with_all_vectors(tmp_path: Path) -> None:
    with opened("edge", tmp_path) as store:
        fill(store)
        before = digests(store, NAME)
    with opened("edge", tmp_path) as store:
        assert digests(store, NAME) == before
        assert store.count(NAME) == N
