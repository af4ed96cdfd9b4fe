"""What the status of a collection means for a backfill: nobody waits for what does not come."""

from __future__ import annotations

import logging

import pytest

from intramodal.commands.doctor import diagnose
from intramodal.errors import StoreError
from intramodal.ingest.backfill.copy import copy_collection
from intramodal.ingest.backfill.in_place import backfill
from intramodal.ingest.backfill.plan import plan_backfill
from intramodal.store.collection import ImageCollection
from intramodal.store.server.store import ServerStore
from tests.faults.schedules import ORIGIN, Truth, Wire

NAME, N, D = "photos", 60, 16
WHY = "Service internal error: No space left on device: WAL buffer size exceeds available disk"
TRUTH = Truth.of(N, D)


@pytest.fixture
def store(wire: Wire) -> ServerStore:
    return wire.store()


@pytest.fixture
def photos(store: ServerStore) -> ImageCollection:
    photos = ImageCollection.ensure(store, NAME, {"raw": (D, ORIGIN)})
    photos.write(TRUTH.ids, {"raw": TRUTH.X}, TRUTH.payloads)
    return photos


def told(wire: Wire, status: str, *, problem: str = "", n_indexed: int = N) -> None:
    """Let the server say so from now on."""
    found = wire.server.storage.find(NAME)
    found.status, found.problem, found.n_indexed = status, problem, n_indexed


def test_a_red_optimizer_is_named_with_its_reason_at_once(
    wire: Wire, photos: ImageCollection, caplog: pytest.LogCaptureFixture
) -> None:
    told(wire, "red", problem=WHY)
    plan = plan_backfill(photos, TRUTH.projection)
    assert any(WHY in note for note in plan.notes)
    with caplog.at_level(logging.WARNING):
        done = backfill(photos, TRUTH.projection)
    assert WHY in caplog.text
    assert done.projected == N
    assert any(f"has stopped: {WHY}" in note for note in done.notes)
    assert wire.pauses() == []
    TRUTH.check(wire.server.storage.points(NAME), is_projected=True)


@pytest.mark.parametrize("status", ["grey", "yellow", "red"])
def test_a_backfill_with_nothing_to_do_waits_for_nothing(
    wire: Wire, photos: ImageCollection, status: str
) -> None:
    """Seen on 1.19.0 after a restart: 100 s for a green that only a write would bring."""
    backfill(photos, TRUTH.projection)
    told(wire, status, problem=WHY if status == "red" else "", n_indexed=N // 2)
    wire.journal.clear()
    assert backfill(photos, TRUTH.projection).projected == 0
    assert wire.pauses() == []
    assert not any(request.method == "PATCH" for request in wire.served())


def test_grey_is_not_waited_for(wire: Wire, photos: ImageCollection) -> None:
    told(wire, "grey")
    done = backfill(photos, TRUTH.projection)
    assert done.projected == N
    assert sum(wire.pauses()) < 1.0
    assert any("optimized after the next write" in note for note in done.notes)


def test_an_index_that_takes_long_is_a_note_and_no_failure(
    wire: Wire, photos: ImageCollection
) -> None:
    told(wire, "yellow")
    done = backfill(photos, TRUTH.projection)
    assert done.projected == N
    assert any("still being built" in note for note in done.notes)
    assert 590 < sum(wire.pauses()) < 610
    assert done.sentence.startswith(f"{N} points of 'photos' got 'pca'")


def test_an_index_that_becomes_green_is_no_note(wire: Wire, photos: ImageCollection) -> None:
    told(wire, "yellow")
    n_looks = 0

    def look(method: str, path: str) -> None:
        nonlocal n_looks
        n_looks += (method, path) == ("GET", f"/collections/{NAME}")
        if n_looks == 8:
            told(wire, "green")

    wire.server.before = look
    try:
        done = backfill(photos, TRUTH.projection)
    finally:
        wire.server.before = lambda method, path: None
    assert done.notes == []
    assert 0 < sum(wire.pauses()) < 10


def test_clients_are_not_switched_to_a_copy_whose_optimizer_has_stopped(
    wire: Wire, photos: ImageCollection
) -> None:
    photos.store.set_alias("shown", NAME)
    found = wire.server.storage.find(NAME)
    found.n_indexed = N

    def stop(method: str, path: str) -> None:
        new = wire.server.storage.collections.get("new")
        if new is not None:
            new.status, new.problem = "red", WHY

    wire.server.before = stop
    try:
        with pytest.raises(StoreError, match=r"has stopped: Service.*no alias was switched"):
            copy_collection(photos, TRUTH.projection, new_collection="new")
    finally:
        wire.server.before = lambda method, path: None
    assert photos.store.aliases() == {"shown": NAME}


def test_the_doctor_names_an_optimizer_that_has_stopped(
    wire: Wire, photos: ImageCollection
) -> None:
    told(wire, "red", problem=WHY)
    result = diagnose(wire.server.url, "sqlite://")
    assert result["state"] == "problem"
    details = [row["detail"] for row in result["checks"] if row["name"] == "store"]
    assert f"the optimizer of 'photos' has stopped: {WHY}" in details
