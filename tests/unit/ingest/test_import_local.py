"""Collections of qdrant-client's local mode in a store of ours: equal, or listed."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal import ImageCollection, import_local, open_store, plan_import_local
from intramodal.errors import Conflict, InputError, Unsupported
from intramodal.ingest import import_local as job
from intramodal.ingest.payload import is_same
from intramodal.store.base import Store, VectorSpec
from intramodal.types import Floats, unit_rows
from tests.foreign_directories import N, contents, make_local_mode

pytestmark = pytest.mark.filterwarnings("ignore:.*local:UserWarning")
D = 6


@pytest.fixture(params=["edge", ":memory:"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "edge":
        pytest.importorskip("qdrant_edge")
    with open_store(str(tmp_path / "ours") if request.param == "edge" else ":memory:") as opened:
        yield opened


def make_mixed(place: Path, rng: np.random.Generator, n: int = 50) -> dict[Any, tuple[Any, Any]]:
    """Write all kinds of ids, vectors and payload; returns vectors and payload by id."""
    from qdrant_client import QdrantClient, models

    X: Floats = rng.normal(size=(n, D)).astype(np.float32)
    given: dict[Any, tuple[Any, Any]] = {}
    for i in range(n):
        point = i if i % 2 else str(uuid.UUID(int=i))
        vectors = {"cos": X[i], "dot": X[i] * 3} if i % 3 else {"dot": X[i] * 3}
        payload = {"n": i, "x": float(X[i, 0]), "tags": ["é", None, True], "deep": {"a": {"b": i}}}
        given[point] = vectors, payload if i % 5 else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = QdrantClient(path=str(place))
    params = {
        "cos": models.VectorParams(size=D, distance=models.Distance.COSINE),
        "dot": models.VectorParams(size=D, distance=models.Distance.DOT),
    }
    client.create_collection("mixed", vectors_config=params, metadata={"of": ["a", 1]})
    client.upsert(
        "mixed",
        [
            models.PointStruct(
                id=point, vector={k: v.tolist() for k, v in vectors.items()}, payload=payload
            )
            for point, (vectors, payload) in given.items()
        ],
    )
    client.update_collection_aliases(
        [
            models.CreateAliasOperation(
                create_alias=models.CreateAlias(collection_name="mixed", alias_name="live")
            )
        ]
    )
    client.close()
    return given


def test_every_vector_and_payload_is_imported_and_a_repeat_writes_nothing(
    tmp_path: Path, store: Store, rng: np.random.Generator
) -> None:
    given = make_mixed(tmp_path / "local", rng)
    before = contents(tmp_path / "local")
    found = import_local(tmp_path / "local", store, batch_size=7)
    again = import_local(tmp_path / "local", store)
    assert contents(tmp_path / "local") == before
    assert (found.written, found.failed, found.aliases) == (len(given), 0, ["live"])
    assert (again.written, again.failed, again.aliases, again.notes) == (0, 0, [], [])
    assert again.collections[0].skipped == len(given)
    assert again.collections[0].differing == 0
    mixed = ImageCollection.open(store, "live")
    assert mixed.vectors == {"cos": VectorSpec(D), "dot": VectorSpec(D, "Dot")}
    assert mixed.described.metadata["of"] == ["a", 1]
    stored: dict[Any, Any] = {}
    for page in mixed.scroll(vectors=["cos", "dot"], payload=True):
        for row, point in enumerate(page.ids):
            vectors = {name: X[row] for name, X in page.vectors.items()}
            stored[point] = vectors, page.payloads[row]
    assert stored.keys() == given.keys()
    for point, (vectors, payload) in given.items():
        assert is_same(stored[point][1], payload)  # the engine reads floats to 4 ulp
        np.testing.assert_array_equal(stored[point][0]["dot"], vectors["dot"])
        unit = unit_rows(vectors["cos"][None])[0] if "cos" in vectors else np.full(D, np.nan)
        np.testing.assert_allclose(stored[point][0]["cos"], unit, atol=1e-7)  # float32 rounding


def test_an_import_that_was_killed_is_completed_by_the_same_call(
    tmp_path: Path, store: Store, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = make_mixed(tmp_path / "local", rng)
    write = ImageCollection.insert
    calls: list[int] = []

    def killed(self: ImageCollection, *arguments: Any) -> None:
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt
        write(self, *arguments)

    monkeypatch.setattr(ImageCollection, "insert", killed)
    with pytest.raises(KeyboardInterrupt):
        import_local(tmp_path / "local", store, batch_size=10)
    monkeypatch.undo()
    n_there = store.count("mixed")
    assert 0 < n_there < len(given)
    found = import_local(tmp_path / "local", store, batch_size=10)
    assert (found.written, found.collections[0].skipped) == (len(given) - n_there, n_there)
    assert store.count("mixed") == len(given)


def test_points_that_were_changed_in_the_store_are_counted_and_kept(
    tmp_path: Path, store: Store
) -> None:
    make_local_mode(tmp_path / "local")
    import_local(tmp_path / "local", store)
    store.set_payload("products", [3], {"category": "mine"})
    store.update_vectors("plain", "", [str(uuid.UUID(int=(4 << 76) | (8 << 60)))], np.ones((1, 3)))
    found = import_local(tmp_path / "local", store)
    assert {one.collection: one.differing for one in found.collections} == {
        "products": 1,
        "plain": 1,
    }
    assert store.retrieve("products", [3], payload=True).payloads == [{"category": "mine"}]


@pytest.mark.parametrize("size", [4, 5])
def test_another_collection_of_that_name_is_refused_before_anything_is_written(
    tmp_path: Path, store: Store, size: int
) -> None:
    make_local_mode(tmp_path / "local")
    store.create("products", {"image": VectorSpec(size)})
    with pytest.raises(Conflict, match="there is a collection 'products' already"):
        import_local(tmp_path / "local", store)
    assert store.collections() == ["products"]
    assert store.count("products") == 0
    done = import_local(tmp_path / "local", store, collections=["plain"])
    assert done.written == N


def test_the_plan_says_what_the_import_does_and_writes_nothing(
    tmp_path: Path, store: Store
) -> None:
    make_local_mode(tmp_path / "local")
    store.create("products", {"image": VectorSpec(4)})
    plain, products = plan_import_local(tmp_path / "local", store)
    assert (plain.points, plain.is_there, plain.problem) == (N, False, "")
    assert plain.vectors == {"": {"size": 3, "distance": "Euclid", "datatype": "float32"}}
    assert "there is a collection 'products' already" in products.problem
    assert store.collections() == ["products"]


def test_what_a_store_cannot_hold_is_listed(tmp_path: Path, store: Store) -> None:
    from qdrant_client import QdrantClient, models

    client = QdrantClient(path=str(tmp_path / "local"))
    words = {"words": models.SparseVectorParams()}
    one = models.VectorParams(size=2, distance=models.Distance.DOT)
    client.create_collection("both", vectors_config={"one": one}, sparse_vectors_config=words)
    client.create_collection("bare", vectors_config={}, sparse_vectors_config=words)
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    sparse: Any = {"words": models.SparseVector(indices=[1], values=[1.0])}
    points = [
        models.PointStruct(id=1, vector={"one": [1.0, 2.0], **sparse}),
        models.PointStruct(id=2, vector=sparse),
        models.PointStruct(id=3, vector={"one": [1.0, 2.0]}, payload={"deep": deep, "kept": 1}),
    ]
    client.upsert("both", points)
    client.close()
    with pytest.raises(Unsupported, match="'bare' has no vector of one row per point"):
        import_local(tmp_path / "local", store)
    found = import_local(tmp_path / "local", store, collections=["both"])
    assert found.collections[0].left_out == {"words": "a sparse vector"}
    reasons = {failure["item"]: failure["reason"] for failure in found.failures}
    assert "it has no vector that can be imported" in reasons["both/2"]
    assert "column 'deep' is left out" in reasons["both/3"]
    assert store.retrieve("both", [3], payload=True).payloads == [{"kept": 1}]
    assert store.count("both") == 2


def test_memory_does_not_grow_with_the_number_of_points(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_mixed(tmp_path / "local", rng, n=300)
    most: list[int] = []
    take = job._Import._take

    def counted(self: Any, target: Any, page: Any) -> None:
        most.append(len(page.ids))
        take(self, target, page)

    monkeypatch.setattr(job._Import, "_take", counted)
    with open_store(":memory:") as store:
        import_local(tmp_path / "local", store, batch_size=40)
    assert max(most) <= 40
    assert sum(most) == 300


def test_an_alias_that_means_something_else_here_is_kept_and_named(
    tmp_path: Path, store: Store, rng: np.random.Generator
) -> None:
    make_mixed(tmp_path / "local", rng, n=3)
    store.create("other", {"raw": VectorSpec(2)})
    store.set_alias("live", "other")
    found = import_local(tmp_path / "local", store)
    assert found.notes == ["the alias 'live' is taken here and is left as it is"]
    assert store.aliases() == {"live": "other"}


def test_settings_that_cannot_be_used_are_refused(tmp_path: Path, store: Store) -> None:
    make_local_mode(tmp_path / "local")
    with pytest.raises(InputError, match="batch_size must be at least 1"):
        import_local(tmp_path / "local", store, batch_size=0)
