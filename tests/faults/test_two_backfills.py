"""Two backfills of the same vector at once, and a rollback beside one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from intramodal.errors import Conflict, ManifestMismatchError
from intramodal.ingest.backfill.in_place import backfill
from intramodal.ingest.backfill.points import VectorFill
from intramodal.ingest.backfill.rollback import rollback_vector
from intramodal.ingest.backfill.verify import verify_vector
from intramodal.projection.projection import Projection
from intramodal.store.base import Store
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import CLAIM_KEY, VectorOrigin
from intramodal.store.open import open_store
from intramodal.store.origins import check_in_place
from tests.faults.wire import WireServer
from tests.unit.ingest.backfill_kit import MATRIX, ORIGIN, PROJECTION, D, N, photos_in

OTHER = Projection(MATRIX[:, ::-1].copy(), "pca", "test", "ab")


@pytest.fixture(params=["rest", "memory", "edge"])
def store(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Store]:
    if request.param != "rest":
        place = ":memory:" if request.param == "memory" else str(tmp_path)
        with open_store(place) as opened:
            yield opened
    else:
        with WireServer() as server, open_store(server.url) as opened:
            yield opened


def again(store: Store) -> ImageCollection:
    return ImageCollection.open(store, "photos")


def claims_left(store: Store) -> list[str]:
    return [key for key in store.info("photos").metadata if key.startswith(CLAIM_KEY)]


@pytest.mark.parametrize("trial", range(3))
def test_of_two_projections_that_start_together_one_writes_and_the_other_is_refused(
    trial: int,
) -> None:
    with WireServer() as server, open_store(server.url) as store:
        photos_in(store, n=300)
        barrier = threading.Barrier(2)
        done: dict[str, Any] = {}

        def fill(projection: Projection) -> None:
            with open_store(server.url) as own:
                photos = again(own)
                barrier.wait()
                try:
                    done[projection.fingerprint] = backfill(photos, projection, batch_size=20)
                except ManifestMismatchError as error:
                    done[projection.fingerprint] = error

        threads = [threading.Thread(target=fill, args=(one,)) for one in (PROJECTION, OTHER)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        photos = again(store)
        by_print = {one.fingerprint: one for one in (PROJECTION, OTHER)}
        winner = by_print.pop(photos.origin("pca").projection)
        assert isinstance(done[next(iter(by_print))], ManifestMismatchError)
        assert done[winner.fingerprint].projected == 300
        assert verify_vector(photos, winner, n=300).stale == 0
        assert photos.origin("pca").is_complete
        assert claims_left(store) == []


def test_who_looked_before_another_declared_the_vector_is_refused_before_it_writes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = photos_in(store)
    write, n = store.set_metadata, 0

    def slowly(*args: Any) -> None:
        nonlocal n
        n += 1
        if n == 1:  # ours has looked and is about to write for the first time
            backfill(again(store), OTHER)
        write(*args)

    monkeypatch.setattr(store, "set_metadata", slowly)
    with pytest.raises(ManifestMismatchError, match=r"made by .*through pca"):
        backfill(ours, PROJECTION)
    assert verify_vector(again(store), OTHER, n=N).stale == 0
    assert again(store).origin("pca").is_complete
    assert claims_left(store) == []


def claim_of(origin: VectorOrigin, word: str) -> dict[str, Any]:
    return {f"{CLAIM_KEY}pca:{word}": {"encoder": "e", "encoder_fingerprint": origin.encoder}}


@pytest.mark.parametrize("word", ["0", "~"], ids=["before ours", "after ours"])
def test_the_claim_of_one_who_was_killed_is_waited_for_and_removed(
    store: Store, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("intramodal.store.collection._CLAIM_S", 1.0)
    photos = photos_in(store)
    store.set_metadata("photos", {**claim_of(ORIGIN, word), f"{CLAIM_KEY}pca:bad": "text"})
    assert backfill(photos, PROJECTION).projected == N
    assert claims_left(store) == []


def test_who_is_always_late_changes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("intramodal.store.collection._CLAIM_S", 0.0)
    photos = photos_in(store)
    with pytest.raises(Conflict, match="run the same command again"):
        backfill(photos, PROJECTION)
    assert set(again(store).manifest.vectors) == set(again(store).vectors) == {"raw"}
    assert claims_left(store) == []


class Interrupted(Projection):
    """Lets something happen after its second page."""

    def __init__(self, happen: Any) -> None:
        super().__init__(MATRIX, "pca", "test", "ab")
        object.__setattr__(self, "happen", happen)
        object.__setattr__(self, "pages", [])

    def apply(self, X: np.ndarray) -> np.ndarray:
        self.pages.append(len(X))  # type: ignore[attr-defined]
        if len(self.pages) == 2:  # type: ignore[attr-defined]
            self.happen()  # type: ignore[attr-defined]
        return super().apply(X)


def replaced(store: Store) -> None:
    """Roll the vector back and declare it otherwise, without filling it yet."""
    rollback_vector(again(store), yes=True)
    other = again(store)
    other.add_vector("pca", D // 2, check_in_place(other, OTHER, "raw", "pca"))


def test_a_vector_that_was_removed_and_declared_otherwise_meanwhile_is_never_called_complete(
    store: Store,
) -> None:
    photos = photos_in(store)
    with pytest.raises(ManifestMismatchError, match="may hold vectors of both"):
        backfill(photos, Interrupted(lambda: replaced(store)), batch_size=10)
    done = backfill(again(store), OTHER)
    assert any("is not called complete: " in note for note in done.notes)
    assert verify_vector(again(store), OTHER, n=N).stale > 0
    assert not again(store).origin("pca").is_complete


def test_a_long_fill_looks_now_and_then_and_stops(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("intramodal.ingest.backfill.points.LOOK_EVERY_S", 0.0)
    photos = photos_in(store)
    projection = Interrupted(lambda: replaced(store))
    with pytest.raises(ManifestMismatchError, match="may hold vectors of both"):
        backfill(photos, projection, batch_size=10)
    assert len(projection.pages) == 2  # type: ignore[attr-defined]


def test_a_rollback_in_the_last_moment_leaves_no_entry(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = photos_in(store)
    is_complete = VectorFill.is_complete

    def late(self: VectorFill, replicas: Any) -> bool:
        found = is_complete(self, replicas)
        rollback_vector(again(store), yes=True)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(VectorFill, "is_complete", late)
        with pytest.raises(Conflict, match="removed from 'photos' while it was being written"):
            backfill(photos, PROJECTION)
    assert set(again(store).manifest.vectors) == {"raw"}
    assert backfill(again(store), OTHER).projected == N
