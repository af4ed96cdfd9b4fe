"""Every route that writes leaves alone what it is not about, byte for byte, on every store.

The collection has four vectors of others (sparse, multivector, uint8, one more dense) and nested
payload. A route says which points, vectors and payload keys it is about; the digest of each point
without these must be the same afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from intramodal.errors import Unsupported
from intramodal.ingest.adopt import declare_model
from intramodal.ingest.backfill.copy import copy_collection
from intramodal.ingest.backfill.in_place import backfill, recompute
from intramodal.ingest.backfill.rollback import rollback_vector
from intramodal.ingest.pipeline import ingest_images, ingest_vectors
from intramodal.ingest.vectors.load import vectors_of
from intramodal.ingest.vectors.ready import open_ready
from intramodal.store.base import Filter, Store
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.types import ImageRecord, PointId, point_id
from tests.contract.foreign import add_foreign, digests, payload_of
from tests.contract.test_foreign import NAME, STORES, opened
from tests.plain_encoder import DIM, PlainEncoder, collection_for, plain_projection
from tests.unit.ingest.pipeline_kit import png

N = 24
ENCODER = PlainEncoder()
RAW = VectorOrigin(ENCODER.name, ENCODER.fingerprint)
PROJECTION = plain_projection(ENCODER)
IDS: list[PointId] = [point_id(NAME, f"{n}.png") for n in range(N)]
EVERY = frozenset(IDS)


def picture(n: int, shade: int | None = None, **payload: object) -> ImageRecord:
    return ImageRecord(f"{n}.png", lambda: png(n if shade is None else shade), payload)


PICTURES = [picture(n) for n in range(N)]


@dataclass(frozen=True)
class About:
    """What a route may change: these points, and of them only these vectors and payload keys."""

    points: frozenset[PointId] = frozenset()
    vectors: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    deleted: frozenset[PointId] = frozenset()
    added: frozenset[PointId] = frozenset()


Route = Callable[[Store, Path], About]


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with opened(request.param, tmp_path / "store") as store:
        fill(store)
        yield store


def fill(store: Store) -> None:
    """Ingest pictures; others have added vectors and payload to their points."""
    ingest_images(PICTURES, collection_for(store, ENCODER, name=NAME), encoder=ENCODER)
    add_foreign(store, NAME, IDS)
    for n, point in enumerate(IDS):
        store.set_payload(NAME, [point], payload_of(n))


def shop(store: Store) -> ImageCollection:
    return ImageCollection.open(store, NAME)


def with_pca(store: Store, *, filled: bool = True) -> ImageCollection:
    collection = shop(store)
    if filled:
        backfill(collection, PROJECTION)
    else:
        origin = replace(RAW, projection=PROJECTION.fingerprint, source="raw")
        collection.add_vector("pca", PROJECTION.dim_out, origin)
    return collection


# The routes: what each does, and what it is about


def ingest_of_changed_and_relabelled_pictures(store: Store, folder: Path) -> About:
    source = [picture(0, shade=900), *PICTURES[1:5], picture(5, shelf="new"), *PICTURES[6:]]
    source.append(picture(N))
    summary = ingest_images(source, shop(store), encoder=ENCODER)
    assert (summary.written, summary.updated, summary.skipped) == (2, 1, N - 2)
    added = frozenset([point_id(NAME, f"{N}.png")])
    return About(frozenset([IDS[0], IDS[5]]), ("raw",), ("sha256", "shelf"), added=added)


def ingest_where_the_projection_is_added_but_not_filled(store: Store, folder: Path) -> About:
    collection = with_pca(store, filled=False)
    summary = ingest_images(PICTURES, collection, encoder=ENCODER, projection=PROJECTION)
    assert (summary.projected, summary.written) == (N, 0)
    return About(EVERY, ("pca",))


def ingest_of_changed_pictures_with_the_projection(store: Store, folder: Path) -> About:
    collection = with_pca(store)
    source = [picture(n, shade=900 + n) if n < 3 else picture(n) for n in range(N)]
    assert ingest_images(source, collection, encoder=ENCODER, projection=PROJECTION).written == 3
    return About(EVERY, ("raw", "pca"), ("sha256",))


def ingest_of_ready_vectors(store: Store, folder: Path) -> About:
    folder.mkdir(exist_ok=True)
    ids = [*IDS[:6], point_id(NAME, "another")]
    X = np.random.default_rng(1).normal(size=(7, DIM)).astype(np.float32)
    stored = store.retrieve(NAME, IDS[3:6], vectors=["raw"]).vectors["raw"]
    X[3:6] = stored  # these get payload only
    np.save(folder / "X.npy", X)
    rows = [f"{point},{n}" for n, point in enumerate(ids)]
    (folder / "meta.csv").write_text("\n".join(["id,row", *rows]))
    ready = open_ready(folder / "X.npy", dataset=NAME, table=folder / "meta.csv")
    collection = with_pca(store)
    vectors_of(ready, RAW, "raw", PROJECTION)
    summary = ingest_vectors(ready, collection, projection=PROJECTION)
    assert (summary.written, summary.updated) == (4, 3)
    return About(EVERY, ("raw", "pca"), ("row",), added=frozenset(ids[6:]))


def pruning(store: Store, folder: Path) -> About:
    summary = ingest_images(PICTURES[2:], shop(store), encoder=ENCODER, prune=True)
    assert (summary.pruned, summary.skipped) == (2, N - 2)
    return About(deleted=frozenset(IDS[:2]))


def filling_in_place(store: Store, folder: Path) -> About:
    assert backfill(shop(store), PROJECTION, batch_size=7).projected == N
    return About(EVERY, ("pca",))


def filling_in_place_again(store: Store, folder: Path) -> About:
    with_pca(store)
    before = digests(store, NAME)
    assert backfill(shop(store), PROJECTION).projected == 0
    assert digests(store, NAME) == before
    return About(EVERY, ("pca",))


def recomputing(store: Store, folder: Path) -> About:
    collection = with_pca(store)
    assert recompute(collection, PROJECTION, where=Filter({"label": ["a", "b"]})).projected == 16
    return About(EVERY, ("pca",))


def rolling_back(store: Store, folder: Path) -> About:
    assert rollback_vector(with_pca(store)).removed == N
    return About()


def filling_some_points_as_oti_does(store: Store, folder: Path) -> About:
    assert backfill(shop(store), PROJECTION, vector="oti", only=IDS[4:9]).projected == 5
    return About(frozenset(IDS[4:9]), ("oti",))


def adopting(store: Store, folder: Path) -> About:
    store.set_metadata(NAME, dict.fromkeys(shop(store).manifest.to_metadata()))
    assert not shop(store).manifest.vectors
    declare_model(shop(store), "raw", ENCODER.name)
    declare_model(shop(store), "caption", "another")
    return About()


def copying_what_a_copy_would_lose(store: Store, folder: Path) -> About:
    with pytest.raises(Unsupported, match="sparse or multi vector"):
        copy_collection(shop(store), PROJECTION, new_collection="new")
    assert not store.exists("new")
    return About()


ROUTES: list[Route] = [
    ingest_of_changed_and_relabelled_pictures,
    ingest_where_the_projection_is_added_but_not_filled,
    ingest_of_changed_pictures_with_the_projection,
    ingest_of_ready_vectors,
    pruning,
    filling_in_place,
    filling_in_place_again,
    recomputing,
    rolling_back,
    filling_some_points_as_oti_does,
    adopting,
    copying_what_a_copy_would_lose,
]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.__name__)
def test_a_route_changes_only_what_it_is_about(store: Store, tmp_path: Path, route: Route) -> None:
    before = digests(store, NAME)
    but_for = {
        keys: digests(store, NAME, without_vectors=("raw", "pca", "oti"), without_keys=keys)
        for keys in [(), ("sha256",), ("sha256", "shelf"), ("row",)]
    }
    about = route(store, tmp_path / "files")
    after = digests(store, NAME)
    assert after.keys() == (before.keys() - about.deleted) | about.added
    for point in before.keys() - about.points - about.deleted:
        assert after[point] == before[point]
    rest = digests(store, NAME, without_vectors=("raw", "pca", "oti"), without_keys=about.keys)
    for point in before.keys() - about.deleted:
        assert rest[point] == but_for[about.keys][point]
    if "raw" not in about.vectors:
        own = digests(store, NAME, without_vectors=about.vectors, without_keys=about.keys)
        assert {point: own[point] for point in before.keys() - about.deleted} == {
            point: digest for point, digest in before.items() if point not in about.deleted
        }
