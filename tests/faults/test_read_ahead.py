"""A backfill reads the next page while the last one is written: that one, and no further."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from intramodal.errors import AccessDenied
from intramodal.ingest.backfill import points
from intramodal.ingest.backfill.in_place import backfill
from intramodal.projection.projection import Projection
from intramodal.store.base import Filter, Page
from intramodal.store.collection import ImageCollection
from intramodal.types import Floats
from tests.contract.test_foreign import needs_engine, opened
from tests.faults.schedules import Truth
from tests.faults.test_streams import empty, made
from tests.faults.test_streams import opened as opened_at
from tests.faults.wire import WireServer
from tests.faults.writers import NAME, PROJECTION, Shop

__all__ = ["empty"]

N, D, BATCH = 400, 16, 100
PATIENCE_S = 20.0


def is_scroll(method: str, path: str) -> bool:
    return path.endswith("/points/scroll") or (method, path) == ("gRPC", "Scroll")


def is_update(method: str, path: str) -> bool:
    return path.endswith("/points/vectors") or (method, path) == ("gRPC", "UpdateVectors")


@dataclass
class Journal:
    """What has arrived; holds the writes of each page back until the next page is asked for.

    Attributes
    ----------
    too_early : list of int
        At each write, the pages that were asked for beyond the next one.
    """

    scrolls: int = 0
    updates: int = 0
    too_early: list[int] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __call__(self, method: str, path: str) -> None:
        with self._changed:
            if is_scroll(method, path):
                self.scrolls += 1
                self._changed.notify_all()
            elif is_update(method, path):
                self.updates += 1
                # There is nothing to read ahead of while the last page is written.
                wanted = min(-(-self.updates // self.a_page) + 1, N // BATCH)
                assert self._changed.wait_for(lambda: self.scrolls >= wanted, PATIENCE_S)
                # A second page, if one were read, would arrive within this moment.
                self._changed.wait_for(lambda: self.scrolls > wanted, 0.1)
                self.too_early.append(self.scrolls - wanted)

    a_page: int = 2
    """Writes of a page: 100 points in parts of at least 64."""


@pytest.fixture
def truth() -> Truth:
    return Truth.of(N, D)


@pytest.fixture(params=[False, True], ids=["rest", "grpc"])
def photos(
    request: pytest.FixtureRequest, empty: WireServer, truth: Truth
) -> Iterator[ImageCollection]:
    with opened_at(empty.url, grpc=request.param) as store:
        collection = made(store, 1)
        collection.write(truth.ids, {"raw": truth.X}, truth.payloads)
        yield collection


def reading_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("read-")]


def test_one_page_is_read_while_the_last_is_written_and_all_arrive(
    empty: WireServer, photos: ImageCollection, truth: Truth
) -> None:
    journal = empty.before = Journal()
    assert backfill(photos, truth.projection, batch_size=BATCH).projected == N
    assert journal.updates == journal.a_page * N / BATCH
    assert set(journal.too_early) == {0}
    truth.check(empty.storage.points(NAME), is_projected=True)


@pytest.mark.parametrize("n_pages", [1, 3])
def test_a_page_that_cannot_be_read_does_not_keep_those_before_it_from_being_written(
    photos: ImageCollection, truth: Truth, n_pages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scroll = photos.store.scroll

    def broken(*what: Any, **how: Any) -> Iterator[Page]:
        yield from itertools.islice(scroll(*what, **how), n_pages)
        raise AccessDenied("the key was withdrawn")

    monkeypatch.setattr(photos.store, "scroll", broken)
    with pytest.raises(AccessDenied, match="withdrawn"):
        backfill(photos, truth.projection, batch_size=BATCH)
    assert photos.count(Filter(has_vector="pca")) == n_pages * BATCH
    assert reading_threads() == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_nothing_is_read_any_more_once_a_page_has_failed(
    empty: WireServer, photos: ImageCollection, truth: Truth, error: type[BaseException]
) -> None:
    class Breaking(Projection):
        def apply(self, X: Floats) -> Floats:
            raise error

    seen: list[str] = []
    empty.before = lambda method, path: seen.append(path) if is_scroll(method, path) else None
    plain = truth.projection
    broken = Breaking(plain.matrix, plain.method, plain.encoder, plain.encoder_fingerprint)
    with pytest.raises(error):
        backfill(photos, broken, batch_size=BATCH)
    assert reading_threads() == []
    assert len(seen) <= 2  # the page at hand, and the next one if it had begun


def test_a_read_that_hangs_keeps_nobody_who_stops(
    empty: WireServer, photos: ImageCollection, truth: Truth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points, "_READ_PATIENCE_S", 0.1)
    scrolls, hangs, ends = itertools.count(1), threading.Event(), threading.Event()

    def hang(method: str, path: str) -> None:
        if is_scroll(method, path) and next(scrolls) == 2:
            hangs.set()
            ends.wait(PATIENCE_S)

    class Stopped(Projection):
        def apply(self, X: Floats) -> Floats:
            assert hangs.wait(PATIENCE_S)
            raise KeyboardInterrupt

    empty.before = hang
    plain = truth.projection
    stopped = Stopped(plain.matrix, plain.method, plain.encoder, plain.encoder_fingerprint)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        backfill(photos, stopped, batch_size=BATCH)
    assert time.monotonic() - started < PATIENCE_S / 2
    ends.set()  # the answer comes, and nobody takes it
    deadline = time.monotonic() + PATIENCE_S
    while reading_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert reading_threads() == []


class Watching(Projection):
    """Notes which threads read while a page is projected."""

    def __init__(self) -> None:
        super().__init__(PROJECTION.matrix, "pca", "test", "ab")
        object.__setattr__(self, "names", [])

    def apply(self, X: Floats) -> Floats:
        names: list[Any] = self.names  # type: ignore[attr-defined]
        names.append(reading_threads())
        return super().apply(X)


@pytest.mark.parametrize(
    ("kind", "throttle"),
    [
        pytest.param("edge", None, marks=needs_engine),
        ("memory", None),
        ("stand-in by rest", 1e6),
    ],
)
def test_no_page_is_read_early_where_that_saves_nothing(
    kind: str, throttle: float | None, tmp_path: Path
) -> None:
    with opened(kind, tmp_path) as store:
        Shop.filled(store, N)
        watching = Watching()
        photos = ImageCollection.open(store, NAME)
        backfill(photos, watching, batch_size=BATCH, throttle=throttle)
        assert watching.names == [[]] * (N // BATCH)  # type: ignore[attr-defined]
