"""A backfill undone, in place and after a copy, by what the collection itself remembers."""

from __future__ import annotations

import pytest

from intramodal.errors import (
    Conflict,
    InputError,
    ManifestMismatchError,
    NotFound,
    Unsupported,
)
from intramodal.ingest.backfill.copy import copy_collection
from intramodal.ingest.backfill.in_place import backfill
from intramodal.ingest.backfill.rollback import rollback_vector
from intramodal.projection.projection import Projection
from intramodal.store.base import Store
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VECTOR_KEY
from tests.unit.ingest.backfill_kit import MATRIX, PROJECTION, N, contents, photos_in, write


def test_in_place_the_vector_and_its_entry_go_and_nothing_else(store: Store) -> None:
    photos = photos_in(store)
    before, known = contents(photos), photos.manifest
    backfill(photos, PROJECTION)
    plan = rollback_vector(photos, dry_run=True)
    assert (plan.removed, plan.is_plan) == (N, True)
    assert set(photos.info().vectors) == {"raw", "pca"}
    done = rollback_vector(photos)
    assert (done.vector, done.removed, done.is_plan) == ("pca", N, False)
    assert set(photos.info().vectors) == {"raw"}
    assert ImageCollection.open(store, "photos").manifest == known
    assert contents(photos) == before
    assert backfill(photos, PROJECTION).projected == N


def test_a_store_without_the_faults_of_old_servers_needs_no_yes(store: Store) -> None:
    photos = photos_in(store)
    backfill(photos, PROJECTION)
    assert rollback_vector(photos, dry_run=True).notes == []
    rollback_vector(photos)
    assert not ImageCollection.open(store, "photos").manifest.removed


def test_a_backfill_that_was_stopped_can_be_undone(store: Store) -> None:
    photos = photos_in(store)
    photos.add_vector("pca", MATRIX.shape[1], photos.origin("raw"))
    store.set_metadata("photos", {VECTOR_KEY + "pca": None})
    photos = ImageCollection.open(store, "photos")
    assert rollback_vector(photos).reason  # nobody knows what made it
    assert "pca" in photos.info().vectors
    store.delete_vector("photos", "pca")

    class Stops(Projection):
        def apply(self, X: object) -> object:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backfill(photos, Stops(MATRIX, "pca", "test", "ab"))
    assert rollback_vector(photos).removed == 0
    assert set(photos.info().vectors) == {"raw"}


def test_a_rollback_that_was_killed_is_completed_by_a_repeat(store: Store) -> None:
    photos = photos_in(store)
    backfill(photos, PROJECTION)
    store.delete_vector("photos", "pca")  # as far as the first one came
    assert rollback_vector(ImageCollection.open(store, "photos")).removed == 0
    assert set(ImageCollection.open(store, "photos").manifest.vectors) == {"raw"}


def test_a_vector_that_no_projection_has_made_is_never_removed(store: Store) -> None:
    photos = photos_in(store)
    before = contents(photos)
    with pytest.raises(InputError, match="nothing to undo"):
        rollback_vector(photos, vector="raw", yes=True)
    assert contents(photos) == before


@pytest.mark.parametrize("vector", ["pca", None])
def test_a_second_rollback_says_that_there_is_nothing_to_roll_back(
    store: Store, vector: str | None
) -> None:
    photos = photos_in(store)
    before = contents(photos)
    backfill(photos, PROJECTION)
    assert rollback_vector(photos, vector=vector).reason == ""
    again = rollback_vector(ImageCollection.open(store, "photos"), vector=vector)
    assert (again.removed, again.sentence.split(":")[0]) == (0, "nothing to roll back")
    assert contents(ImageCollection.open(store, "photos")) == before


def test_of_several_projected_vectors_one_must_be_named(store: Store) -> None:
    photos = photos_in(store)
    backfill(photos, PROJECTION)
    backfill(photos, Projection(-MATRIX, "pca", "test", "ab"), vector="other")
    with pytest.raises(InputError, match="'other', 'pca' as `vector`"):
        rollback_vector(photos)
    rollback_vector(photos, vector="other")
    assert set(photos.info().vectors) == {"raw", "pca"}


def test_a_server_that_cannot_remove_a_vector_leaves_the_manifest(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise Unsupported("too old")

    photos = photos_in(store)
    backfill(photos, PROJECTION)
    monkeypatch.setattr(store, "check_adds_vectors", refuse)
    with pytest.raises(Unsupported):
        rollback_vector(photos)
    assert "pca" in ImageCollection.open(store, "photos").manifest.vectors


@pytest.fixture
def copied(store: Store) -> ImageCollection:
    """Return the copy of `photos`, to which the alias `shown` was switched."""
    photos = photos_in(store)
    store.set_aliases({"shown": "photos"})
    copy_collection(photos, PROJECTION, new_collection="new")
    return ImageCollection.open(store, "new")


def test_after_a_copy_clients_are_sent_back_and_nothing_is_dropped(
    store: Store, copied: ImageCollection
) -> None:
    store.set_alias("own", "new")  # not switched by us
    before = contents(copied, ["raw", "pca"])
    assert rollback_vector(copied, dry_run=True).aliases == ["shown"]
    assert store.aliases()["shown"] == "new"
    done = rollback_vector(copied)
    assert (done.back_to, done.aliases, done.only_in_new) == ("photos", ["shown"], 0)
    assert store.aliases() == {"shown": "photos", "own": "new"}
    assert contents(copied, ["raw", "pca"]) == before


def test_a_rolled_back_copy_can_be_switched_again(store: Store, copied: ImageCollection) -> None:
    rollback_vector(copied)
    photos = ImageCollection.open(store, "photos")
    write(photos, range(700, 703))
    again = copy_collection(photos, PROJECTION, new_collection="new")
    assert (again.copied, again.aliases) == (3, ["shown"])
    assert store.aliases() == {"shown": "new"}


def test_points_that_only_the_copy_has_are_not_left_behind_unasked(
    store: Store, copied: ImageCollection
) -> None:
    write(copied, range(900, 905))
    plan = rollback_vector(copied, dry_run=True)
    assert plan.only_in_new == 5
    with pytest.raises(Conflict, match=r"holds 5 points that 'photos' lacks .*`yes`"):
        rollback_vector(copied)
    assert store.aliases() == {"shown": "new"}
    done = rollback_vector(copied, yes=True)
    assert (done.only_in_new, store.aliases()) == (5, {"shown": "photos"})


def test_without_an_alias_there_is_nothing_to_switch_and_it_is_said(store: Store) -> None:
    photos = photos_in(store)
    copy_collection(photos, PROJECTION, new_collection="new")
    done = rollback_vector(ImageCollection.open(store, "new"))
    assert (done.aliases, done.back_to) == ([], "photos")
    assert "give clients the name 'photos' again" in done.sentence
    assert store.collections() == ["new", "photos"]


def test_nothing_leads_back_to_a_collection_that_is_gone(
    store: Store, copied: ImageCollection
) -> None:
    store.drop("photos")
    with pytest.raises(NotFound, match="'photos', which is gone"):
        rollback_vector(copied)
    assert store.aliases() == {"shown": "new"}


def test_another_vector_of_a_copy_is_removed_in_place(
    store: Store, copied: ImageCollection
) -> None:
    backfill(copied, Projection(-MATRIX, "pca", "test", "ab"), vector="other")
    assert rollback_vector(copied, vector="other").back_to is None
    assert set(copied.info().vectors) == {"raw", "pca"}
    assert store.aliases() == {"shown": "new"}


@pytest.mark.parametrize("spoilt", ["copied", {"version": 2}, {"version": 1, "collection": "x"}])
def test_a_record_that_is_not_ours_is_refused(
    store: Store, copied: ImageCollection, spoilt: object
) -> None:
    store.set_metadata("new", {"intramodal_copy": spoilt})
    with pytest.raises(ManifestMismatchError, match="intramodal_copy"):
        rollback_vector(copied)
