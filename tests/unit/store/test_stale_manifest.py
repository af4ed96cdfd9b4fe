"""A collection that was opened before others changed its manifest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest

from intramodal.errors import ManifestMismatchError
from intramodal.ingest.backfill.in_place import backfill, recompute
from intramodal.ingest.backfill.plan import plan_backfill
from intramodal.ingest.backfill.rollback import rollback_vector
from intramodal.ingest.backfill.verify import verify_vector
from intramodal.projection.projection import Projection
from intramodal.store.base import Filter, Store, VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import METADATA_KEY, VECTOR_KEY, Manifest, VectorOrigin
from intramodal.store.open import open_store
from tests.unit.ingest.backfill_kit import MATRIX, ORIGIN, PROJECTION, D, N, photos_in

OTHER = Projection(MATRIX[:, ::-1].copy(), "pca", "test", "ab")


@pytest.fixture
def store() -> Iterator[Store]:
    with open_store(":memory:") as opened:
        yield opened


def again(store: Store) -> ImageCollection:
    return ImageCollection.open(store, "photos")


def test_what_writes_or_judges_by_the_manifest_reads_it_anew(store: Store) -> None:
    backfill(photos_in(store), PROJECTION)
    rollback_vector(again(store))
    photos = again(store)
    backfill(again(store), OTHER)
    assert "pca" not in photos.manifest.vectors
    assert verify_vector(photos, OTHER, n=N).stale == 0


@pytest.mark.parametrize(
    "act",
    [
        lambda photos: recompute(photos, PROJECTION, where=Filter()),
        lambda photos: verify_vector(photos, PROJECTION, n=N),
        lambda photos: plan_backfill(photos, PROJECTION),
        lambda photos: backfill(photos, PROJECTION),
    ],
    ids=["recompute", "verify", "plan", "backfill"],
)
def test_a_vector_that_another_projection_has_made_since_is_not_touched(
    store: Store, act: Any
) -> None:
    backfill(photos_in(store), PROJECTION)
    stale = again(store)
    rollback_vector(again(store))
    backfill(again(store), OTHER)
    with pytest.raises(ManifestMismatchError):
        act(stale)
    assert verify_vector(again(store), OTHER, n=N).stale == 0


def test_a_name_that_was_freed_since_is_not_refused(store: Store) -> None:
    backfill(photos_in(store), PROJECTION)
    stale = again(store)
    rollback_vector(again(store))
    assert backfill(stale, OTHER).projected == N


def test_a_rollback_sees_a_vector_that_was_added_since(store: Store) -> None:
    photos_in(store)
    stale = again(store)
    backfill(again(store), PROJECTION)
    assert rollback_vector(stale).removed == N


@pytest.mark.parametrize("theirs", ["rollback", "incomplete"])
def test_who_changes_an_old_manifest_overwrites_nothing_that_another_has_just_changed(
    store: Store, monkeypatch: pytest.MonkeyPatch, theirs: str
) -> None:
    pca = replace(ORIGIN, projection="aa", source="raw")
    head = {"version": 1, "vectors": {"raw": asdict(ORIGIN), "pca": asdict(pca)}}
    specs = {"raw": VectorSpec(D), "pca": VectorSpec(4)}
    store.create("photos", specs, metadata={METADATA_KEY: head})
    photos, write, n = again(store), store.set_metadata, 0

    def late(*args: Any) -> None:
        nonlocal n
        n += 1
        if n == 1 and theirs == "rollback":
            rollback_vector(again(store))
        elif n == 1:
            again(store).finish_vector("pca", is_complete=False)
        write(*args)

    monkeypatch.setattr(store, "set_metadata", late)
    photos.declare("raw", replace(ORIGIN, precision="fp32"))
    known = again(store).manifest.vectors
    assert known["raw"].precision == "fp32"
    assert known.get("pca") == (None if theirs == "rollback" else replace(pca, is_complete=False))


@pytest.mark.parametrize(
    "stored",
    [
        {"removed_by": None},
        {"removed_by": [1]},
        {**asdict(VectorOrigin("e", "f")), "removed_by": None},
    ],
    ids=str,
)
def test_a_version_that_is_no_text_is_refused(stored: Any) -> None:
    own = Manifest({"raw": ORIGIN}, "photos").to_metadata()
    with pytest.raises(ManifestMismatchError, match="intramodal:pca"):
        Manifest.from_metadata({**own, VECTOR_KEY + "pca": stored})


@pytest.mark.parametrize("told", ["false", "true", None, 1])
def test_only_true_is_read_as_complete(told: Any) -> None:
    entry = {**asdict(VectorOrigin("e", "f")), "is_complete": told}
    own = Manifest({"raw": ORIGIN}, "photos").to_metadata()
    read = Manifest.from_metadata({**own, VECTOR_KEY + "pca": entry})
    assert not read.vectors["pca"].is_complete
