"""What the status of a collection means for a backfill: nobody waits for what does not come."""

from __future__ import annotations

import io
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from tqdm import tqdm

from intramodal.commands.doctor import diagnose
from intramodal.errors import StoreError
from intramodal.ingest.backfill.copy import copy_collection
from intramodal.ingest.backfill.in_place import backfill
from intramodal.ingest.backfill.plan import plan_backfill
from intramodal.store.collection import ImageCollection
from intramodal.store.server.store import ServerStore
from tests.faults.schedules import ORIGIN, Truth, Wire
from tests.faults.wire.errors import WireError

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


@pytest.fixture
def stopping(wire: Wire, photos: ImageCollection) -> Iterator[None]:
    """Let the optimizer of a new collection stop as soon as that is there."""
    wire.server.storage.find(NAME).n_indexed = N

    def stop(method: str, path: str) -> None:
        new = wire.server.storage.collections.get("new")
        if new is not None:
            new.status, new.problem = "red", WHY

    wire.server.before = stop
    yield
    wire.server.before = lambda method, path: None


@pytest.mark.usefixtures("stopping")
def test_clients_are_not_switched_to_a_copy_whose_optimizer_has_stopped(
    photos: ImageCollection,
) -> None:
    photos.store.set_alias("shown", NAME)
    with pytest.raises(StoreError, match=r"has stopped: Service.*no alias was switched"):
        copy_collection(photos, TRUTH.projection, new_collection="new")
    assert photos.store.aliases() == {"shown": NAME}


def test_clients_are_switched_once_the_index_is_built_however_long_that_takes(
    wire: Wire, photos: ImageCollection, caplog: pytest.LogCaptureFixture
) -> None:
    photos.store.set_alias("shown", NAME)
    told(wire, "green")

    def build(method: str, path: str) -> None:
        new = wire.server.storage.collections.get("new")
        if new is not None:
            new.status = "yellow" if sum(wire.pauses()) < 3 * 3600 else "green"

    wire.server.before = build
    try:
        done = copy_collection(photos, TRUTH.projection, new_collection="new")
    finally:
        wire.server.before = lambda method, path: None
    assert done.aliases == ["shown"]
    assert photos.store.aliases() == {"shown": "new"}
    assert sum(wire.pauses()) >= 3 * 3600
    assert caplog.text.count("the aliases are switched then") == 1


@pytest.mark.usefixtures("stopping")
def test_a_copy_that_no_alias_waits_for_ends_with_a_note(photos: ImageCollection) -> None:
    done = copy_collection(photos, TRUTH.projection, new_collection="new")
    assert done.copied == N
    assert any("has stopped: Service" in note for note in done.notes)
    assert ImageCollection.open(photos.store, "new").manifest.vectors["pca"].is_complete


def test_the_doctor_names_an_optimizer_that_has_stopped(
    wire: Wire, photos: ImageCollection
) -> None:
    told(wire, "red", problem=WHY)
    result = diagnose(wire.server.url, "sqlite://")
    assert result["state"] == "problem"
    details = [row["detail"] for row in result["checks"] if row["name"] == "store"]
    assert f"the optimizer of 'photos' has stopped: {WHY}" in details


LEFT = {
    "summary": {
        "queued_optimizations": 1,
        "queued_segments": 2,
        "queued_points": 1200,
        "idle_segments": 1,
    },
    "running": [
        {
            "uuid": str(uuid.UUID(int=1)),
            "optimizer": "merge",
            "status": "optimizing",
            "segments": [
                {"uuid": str(uuid.UUID(int=2)), "points_count": 34},
                {"uuid": str(uuid.UUID(int=3)), "points_count": 0},
            ],
            "progress": {
                "name": "Segment Optimizing",
                "started_at": "2026-11-27T09:38:03.824229268Z",
                "children": [
                    {
                        "name": "copy_data",
                        "started_at": "2026-11-27T09:38:03.839638217Z",
                        "finished_at": "2026-11-27T09:38:03.840266921Z",
                        "duration_sec": 0.000627677,
                    },
                    {
                        "name": "vector_index",
                        "started_at": "2026-11-27T09:38:03.912106479Z",
                        "children": [
                            {
                                "name": "main_graph",
                                "started_at": "2026-11-27T09:38:03.912106479Z",
                                "done": 9,
                                "total": 36,
                            }
                        ],
                    },
                    {"name": "wait_cpu_permit"},
                ],
            },
        }
    ],
}
"""In the form of the recorded answer of 1.19.0, with more to do."""
SAID = "1,234 points in 4 segments left (main graph 25%)"
ASKED = ("GET", f"/collections/{NAME}/optimizations")


def n_asked(wire: Wire) -> int:
    return sum((request.method, request.path) == ASKED for request in wire.served())


@contextmanager
def refused(wire: Wire, status: int, n_times: int = 10_000) -> Iterator[None]:
    """Let the server refuse to say what is left, the first times."""
    n_left = n_times

    def refuse(method: str, path: str) -> None:
        nonlocal n_left
        if (method, path) == ASKED:
            found = wire.server.storage.find(NAME)
            found.optimizations = WireError(status, "Forbidden") if n_left > 0 else LEFT
            n_left -= 1

    wire.server.before = refuse
    try:
        yield
    finally:
        wire.server.before = lambda method, path: None


def left_unoptimized(wire: Wire) -> None:
    told(wire, "yellow")
    wire.server.storage.find(NAME).optimizations = LEFT


def test_what_is_left_is_told_once_a_minute_where_no_bar_is_drawn(
    wire: Wire, photos: ImageCollection, caplog: pytest.LogCaptureFixture
) -> None:
    left_unoptimized(wire)
    with caplog.at_level(logging.WARNING):
        photos.store.optimize(NAME, deadline_s=600)
    lines = [record.message for record in caplog.records if SAID in record.message]
    assert lines[0] == f"the index of {NAME!r} is still being built: {SAID}"
    assert 8 <= len(lines) <= 10
    assert n_asked(wire) == len(lines)


def test_what_is_left_stands_on_the_bar(
    wire: Wire, photos: ImageCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_unoptimized(wire)
    screen = io.StringIO()
    monkeypatch.setattr(
        "intramodal.store.server.store.waiting",
        lambda what: tqdm(desc=what, file=screen, mininterval=0),
    )
    wire.journal.clear()
    photos.store.optimize(NAME, deadline_s=60)
    assert SAID in screen.getvalue()
    assert 10 < n_asked(wire) <= len(wire.pauses())


@pytest.mark.parametrize("status", [403, 404])
def test_a_key_that_may_not_ask_what_is_left_is_asked_for_it_once(
    wire: Wire, photos: ImageCollection, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    left_unoptimized(wire)
    with refused(wire, status), caplog.at_level(logging.WARNING):
        said = photos.store.optimize(NAME, deadline_s=600)
    assert "still being built" in said
    assert caplog.records == []
    assert n_asked(wire) == 1


def test_what_is_left_is_asked_again_after_a_passing_failure(
    wire: Wire, photos: ImageCollection, caplog: pytest.LogCaptureFixture
) -> None:
    left_unoptimized(wire)
    with refused(wire, 503, n_times=2), caplog.at_level(logging.WARNING):
        photos.store.optimize(NAME, deadline_s=600)
    lines = [record for record in caplog.records if SAID in record.message]
    assert 6 <= len(lines) == n_asked(wire) - 2


def test_an_older_server_is_not_asked_what_is_left(
    wire: Wire, photos: ImageCollection, caplog: pytest.LogCaptureFixture
) -> None:
    left_unoptimized(wire)
    older = replace(wire.connection, version="1.16.2")
    with caplog.at_level(logging.WARNING):
        ServerStore(older, retry=wire.clock.retry()).optimize(NAME, deadline_s=600)
    assert caplog.records == []
    assert n_asked(wire) == 0
