"""A scan in several slices at once gives what a scroll gives, in its order, or becomes one."""

from __future__ import annotations

import csv
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from intramodal.ingest.vectors.export import export_vector
from intramodal.store.base import Filter, Page, Slice, Store, VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.store.open import open_store
from intramodal.store.queries import id_order
from intramodal.store.server import slices
from intramodal.store.server.store import ServerStore
from intramodal.types import PointId, point_id, unit_rows
from tests.faults.test_shard_keys import NAME as TENANTS
from tests.faults.test_shard_keys import Tenants, filled
from tests.faults.test_streams import opened
from tests.faults.wire import WireServer

NAME, N, D, BATCH = "photos", 1500, 4, 50
IDS: list[PointId] = [*range(N // 2), *sorted(point_id(NAME, f"{i}.jpg") for i in range(N // 2))]
X = unit_rows(np.random.default_rng(19).normal(size=(N, D))).astype(np.float32)
BLUE = Filter({"colour": "blue"})
WANTED: dict[str, Any] = {"vectors": ["raw", "pca"], "payload": ["colour"], "batch_size": BATCH}


@dataclass
class Scrolls:
    """How often it was scrolled, and what happens at one of the scrolls."""

    n: int = 0
    at: int = -1
    event: Any = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, method: str, path: str) -> None:
        if not (path.endswith("/points/scroll") or (method, path) == ("gRPC", "Scroll")):
            return
        with self._lock:
            self.n += 1
            if self.n == self.at:
                self.event()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read slices from the third page on, however fast the server is."""
    monkeypatch.setattr(slices, "WAITS_FOR_WORK", -1e9)


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the numbers of slices that were read at once."""
    seen: list[int] = []
    merged = slices.merged

    def noted(pages: list[Iterator[Page]]) -> Iterator[Page]:
        seen.append(len(pages))
        return merged(pages)

    monkeypatch.setattr(slices, "merged", noted)
    return seen


def fill(store: Store) -> None:
    """Write all points; every fifth lacks the second vector."""
    specs = {"raw": VectorSpec(D), "pca": VectorSpec(D)}
    store.create(NAME, specs, metadata={})
    payloads = [{"colour": ["red", "green", "blue"][i % 3], "n": i} for i in range(N)]
    store.upsert(NAME, IDS, {"raw": X}, payloads)
    some = [i for i in range(N) if i % 5]
    store.update_vectors(NAME, "pca", [IDS[i] for i in some], X[some][:, ::-1])


@pytest.fixture(scope="module")
def server() -> Iterator[WireServer]:
    with WireServer(speaks_grpc=True, version="1.19.0") as served:
        yield served


@pytest.fixture(params=["rest", "grpc"])
def store(server: WireServer, request: pytest.FixtureRequest) -> Iterator[ServerStore]:
    server.before = lambda method, path: None
    server.storage.clear()
    with opened(server.url, grpc=request.param == "grpc") as store:
        fill(store)
        yield store
    assert not [one.name for one in threading.enumerate() if one.name == "slice"]


def together(pages: Iterator[Page]) -> tuple[list[PointId], list[Any], bytes]:
    """Return ids, payloads and the bits of the vectors of all pages."""
    read = list(pages)
    rows = [np.hstack([page.vectors["raw"], page.vectors["pca"]]) for page in read]
    payloads = [payload for page in read for payload in page.payloads]
    return [i for page in read for i in page.ids], payloads, np.concatenate(rows).tobytes()


@pytest.mark.parametrize(
    ("where", "n"), [(None, N), (BLUE, N // 3), (Filter(has_vector="pca"), N - N // 5)], ids=str
)
def test_a_scan_gives_the_rows_of_a_scroll_in_their_order(
    store: ServerStore, where: Filter | None, n: int, parts: list[int]
) -> None:
    plain = together(store.scroll(NAME, where=where, **WANTED))
    assert together(store.scan(NAME, where=where, **WANTED)) == plain
    assert parts == [4]
    assert len(plain[0]) == n


def test_points_of_shard_keys_come_key_by_key(
    server: WireServer, store: ServerStore, parts: list[int]
) -> None:
    filled(server, Tenants.of(400, 16))
    plain = list(store.scroll(TENANTS, vectors=["raw"], batch_size=BATCH))
    ours = list(store.scan(TENANTS, vectors=["raw"], batch_size=BATCH))
    assert [i for page in ours for i in page.ids] == [i for page in plain for i in page.ids]
    X, Y = (np.concatenate([page.vectors["raw"] for page in some]) for some in (plain, ours))
    np.testing.assert_array_equal(X, Y)
    assert parts == [4]
    assert len(X) == 800


def test_beside_a_writer_that_deletes_all_that_stays_is_read_once_and_in_order(
    server: WireServer, store: ServerStore, parts: list[int]
) -> None:
    points, scrolls = server.storage.points(NAME), Scrolls()
    gone = iter([point for i, point in enumerate(IDS) if i % 7 == 0][::-1])  # far ahead first

    def deleting(method: str, path: str) -> None:
        scrolls(method, path)
        with server.storage.lock:
            for point in [next(gone, None) for _ in range(6)]:
                points.pop(point, None)

    server.before = deleting
    ids, payloads, _ = together(store.scan(NAME, **WANTED))
    assert parts == [4]
    assert scrolls.n > 10
    assert ids == sorted(set(ids), key=id_order)
    assert set(IDS) - {point for i, point in enumerate(IDS) if i % 7 == 0} <= set(ids)
    assert [p["colour"] for p in payloads] == [
        ["red", "green", "blue"][IDS.index(i) % 3] for i in ids
    ]
    assert len(ids) < N


@pytest.mark.parametrize("at", [3, 6, 14])
def test_slices_that_are_forbidden_meanwhile_become_a_plain_scroll(
    server: WireServer, store: ServerStore, parts: list[int], at: int
) -> None:
    plain = together(store.scroll(NAME, where=BLUE, **{**WANTED, "batch_size": 20}))
    strict = models.StrictModeConfig(enabled=True, filter_max_conditions=1)
    change = models.UpdateCollection(strict_mode_config=strict)
    server.before = Scrolls(at=at, event=lambda: server.storage.update(NAME, change))
    ours = together(store.scan(NAME, where=BLUE, **{**WANTED, "batch_size": 20}))
    assert ours == plain
    assert parts == [4]


def test_a_failure_of_the_plain_scroll_is_raised(server: WireServer, store: ServerStore) -> None:
    server.before = Scrolls(at=5, event=lambda: server.storage.clear())
    with pytest.raises(Exception, match=r"photos"):
        together(store.scan(NAME, **WANTED))


def test_who_stops_reading_leaves_no_thread(store: ServerStore, parts: list[int]) -> None:
    pages = store.scan(NAME, **WANTED)
    seen = [next(pages) for _ in range(5)]
    pages.close()  # type: ignore[attr-defined]
    assert parts == [4]
    assert [i for page in seen for i in page.ids] == IDS[: sum(len(page.ids) for page in seen)]


@pytest.mark.parametrize(
    "strict", [{"read_rate_limit": 6000}, {"filter_max_conditions": 0}], ids=str
)
def test_limits_of_strict_mode_forbid_slices(
    server: WireServer, store: ServerStore, parts: list[int], strict: dict[str, Any]
) -> None:
    config = models.StrictModeConfig(enabled=True, **strict)
    server.storage.update(NAME, models.UpdateCollection(strict_mode_config=config))
    with open_store(server.url) as other:
        assert together(other.scan(NAME, **WANTED))[0] == IDS
    assert parts == []


def test_named_points_and_older_servers_are_read_plainly(
    store: ServerStore, parts: list[int]
) -> None:
    named = Filter(ids=IDS[::3])
    assert together(store.scan(NAME, where=named, **WANTED))[0] == IDS[::3]
    one = Filter(slice=Slice(2, 1))
    assert 0 < len(together(store.scan(NAME, where=one, **WANTED))[0]) < N
    with WireServer(version="1.18.3") as older, open_store(older.url) as other:
        fill(other)
        assert together(other.scan(NAME, **WANTED))[0] == IDS
    assert parts == []


def test_slices_are_read_where_the_server_is_slow(
    server: WireServer, store: ServerStore, parts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "WAITS_FOR_WORK", 0.5)
    server.before = lambda method, path: time.sleep(0.05)
    assert together(store.scan(NAME, **{**WANTED, "batch_size": 400}))[0] == IDS
    assert parts == [4]


def test_tables_and_exports_are_read_so(
    store: ServerStore, parts: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("intramodal.ingest.vectors.export._PAGE", BATCH)
    origin = VectorOrigin("clip", "3f9a")
    photos = ImageCollection.open(store, NAME)
    photos.declare("raw", origin)
    photos.declare("pca", origin)
    found = photos.table(["raw", "pca"], payload=["colour"])
    kept = sorted((i for i in range(N) if i % 5), key=lambda i: str(IDS[i]))
    assert found.ids == [IDS[i] for i in kept]
    np.testing.assert_array_equal(found.vectors["raw"], X[kept])
    assert found.payload["colour"] == [["red", "green", "blue"][i % 3] for i in kept]
    export_vector(photos, vector="raw", out=tmp_path / "raw.npy")
    with (tmp_path / "raw.ids.csv").open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == list(map(str, IDS))
    np.testing.assert_array_equal(np.load(tmp_path / "raw.npy"), X)
    assert parts == [4, 4]
