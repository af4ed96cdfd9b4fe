"""Adding and removing a vector on servers of several versions."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from intramodal.errors import Conflict
from intramodal.ingest.backfill.in_place import backfill
from intramodal.ingest.backfill.plan import plan_backfill
from intramodal.ingest.backfill.rollback import rollback_vector
from intramodal.store.base import Store
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import Manifest
from intramodal.store.open import open_store
from tests.faults.wire import WireServer
from tests.unit.ingest.backfill_kit import PROJECTION, N, assert_projected, contents, photos_in


@contextmanager
def at(version: str, *, uses_grpc: bool = False) -> Iterator[tuple[WireServer, Store]]:
    with (
        WireServer(version=version, speaks_grpc=uses_grpc) as server,
        open_store(server.url) as store,
    ):
        yield server, store


def manifest(store: Store) -> Manifest:
    return ImageCollection.open(store, "photos").manifest


@pytest.mark.parametrize("version", ["1.18.0", "1.18.3"])
def test_below_1_19_a_vector_is_removed_only_after_a_yes(version: str) -> None:
    with at(version) as (_, store):
        photos = photos_in(store)
        backfill(photos, PROJECTION)
        before = contents(photos, ["raw", "pca"])
        plan = rollback_vector(photos, dry_run=True)
        assert (plan.removed, plan.is_plan) == (N, True)
        assert "this needs --yes" in plan.notes[0]
        reasons = rf"Qdrant {version} .*qdrant#9641.*qdrant#9105.*qdrant#9317.*1\.19\.0.*--yes"
        with pytest.raises(Conflict, match=reasons):
            rollback_vector(photos)
        assert contents(photos, ["raw", "pca"]) == before
        assert rollback_vector(photos, yes=True).removed == N
        assert set(photos.info().vectors) == {"raw"}


@pytest.mark.parametrize("uses_grpc", [False, True])
def test_a_name_that_such_a_server_has_removed_is_used_again_only_after_a_yes(
    uses_grpc: bool,
) -> None:
    with at("1.18.3", uses_grpc=uses_grpc) as (_, store):
        photos = photos_in(store)
        backfill(photos, PROJECTION)
        rollback_vector(photos, yes=True)
        assert manifest(store).removed == {"pca": "1.18.3"}
        again = ImageCollection.open(store, "photos")
        for act in (backfill, plan_backfill):
            with pytest.raises(Conflict, match=r"removed .* by Qdrant 1\.18\.3.*#9317.*--yes"):
                act(again, PROJECTION)
        assert set(again.info().vectors) == {"raw"}
        assert backfill(again, PROJECTION, vector="pca_2").projected == N
        assert plan_backfill(again, PROJECTION, yes=True).n_missing == N
        assert backfill(again, PROJECTION, yes=True).projected == N
        assert_projected(again)
        assert manifest(store).removed == {}
        assert backfill(again, PROJECTION).projected == 0


def test_a_rollback_that_was_killed_before_the_removal_is_repeated_or_taken_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with at("1.18.3") as (_, store):
        photos = photos_in(store)
        backfill(photos, PROJECTION)

        def stop(*names: str) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(store, "delete_vector", stop)
            with pytest.raises(KeyboardInterrupt):
                rollback_vector(photos, yes=True)
        assert manifest(store).removed == {"pca": "1.18.3"}
        photos = ImageCollection.open(store, "photos")
        assert backfill(photos, PROJECTION).skipped == N  # it was not removed
        assert manifest(store).removed == {}
        assert rollback_vector(photos, yes=True).removed == N


def test_after_the_upgrade_the_name_is_free_again() -> None:
    with at("1.18.3") as (old, store):
        photos = photos_in(store)
        backfill(photos, PROJECTION)
        rollback_vector(photos, yes=True)
        with (
            WireServer(version="1.19.0", storage=old.storage) as server,
            open_store(server.url) as upgraded,
        ):
            photos = ImageCollection.open(upgraded, "photos")
            assert backfill(photos, PROJECTION).projected == N
            assert rollback_vector(photos).removed == N  # and no yes is needed
            assert manifest(upgraded).removed == {}


@pytest.mark.parametrize(
    ("version", "warns"),
    [("1.18.0", True), ("1.18.1", True), ("1.18.2", False), ("1.19.0", False)],
)
def test_below_1_18_2_a_backfill_in_place_warns_before_it_adds_the_vector(
    version: str, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with at(version) as (_, store):
        photos = photos_in(store)
        noted = [note for note in plan_backfill(photos, PROJECTION).notes if "#8776" in note]
        assert len(noted) == warns
        with caplog.at_level(logging.WARNING, logger="intramodal"):
            for _ in range(2):
                backfill(photos, PROJECTION)
        warned = [text for text in caplog.messages if "#8776" in text]
        assert len(warned) == warns
