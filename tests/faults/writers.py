"""Writers of a collection that is being backfilled, of six kinds, and what they must find."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from intramodal.ingest.backfill.in_place import BackfillSummary
from intramodal.ingest.backfill.verify import verify_vector
from intramodal.projection.projection import Projection
from intramodal.store.base import Store
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.types import Floats, PointId, unit_rows

NAME, D = "photos", 16
A_SECOND = 20
PROJECTION = Projection(
    np.linalg.qr(np.random.default_rng(1).normal(size=(D, D // 2)))[0], "pca", "test", "ab"
)
NEW_BOTH, AGAIN_BOTH, SOURCE_ALONE = "new with both", "again with both", "the source alone"
DELETES, PAYLOAD, NEW_WITHOUT = "deletes", "payload", "new without"
KINDS = (NEW_BOTH, AGAIN_BOTH, SOURCE_ALONE, DELETES, PAYLOAD, NEW_WITHOUT)


def row_of(point: int, number: int) -> Floats:
    """Return the source vector (1, D) that the write of that number gives a point."""
    return unit_rows(np.random.default_rng([number, point]).normal(size=(1, D)))


@dataclass
class Shop:
    """A collection, and what its writers have made of it; no two kinds write to one point.

    Attributes
    ----------
    raw, number : dict
        The last source vector and payload of each point that is there.
    deleted, without : set
        Points that were deleted; that were written as a whole without the projected vector.
    changed_alone : set
        Points whose source vector alone was written, by either call.
    n_writes : dict
        By kind.
    """

    store: Store
    n: int
    raw: dict[int, Floats] = field(default_factory=dict)
    number: dict[int, int] = field(default_factory=dict)
    deleted: set[int] = field(default_factory=set)
    without: set[int] = field(default_factory=set)
    changed_alone: set[int] = field(default_factory=set)
    n_writes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))

    @classmethod
    def filled(cls, store: Store, n: int) -> Shop:
        """Make a collection of `n` points that have the source vector."""
        made = ImageCollection.create(store, NAME, {"raw": (D, VectorOrigin("test", "ab"))})
        X = unit_rows(np.random.default_rng(0).normal(size=(n, D)))
        made.write(list(range(n)), {"raw": X}, [{"number": 0}] * n)
        return cls(store, n, dict(enumerate(X[:, None])), dict.fromkeys(range(n), 0))

    def ids(self, kind: str) -> range:
        """Return the points that writers of a kind change."""
        return range(KINDS.index(kind), self.n, len(KINDS))

    def write(self, kind: str, point: int) -> None:
        """Let a writer make its next write, to that point or, if it only adds, to a new one."""
        self.n_writes[kind] += 1
        number = self.n_writes[kind]
        if kind in (NEW_BOTH, NEW_WITHOUT):
            point = self.n + len(KINDS) * number + KINDS.index(kind)
        acts: dict[str, Callable[[int, int], None]] = {
            NEW_BOTH: self._write_both,
            AGAIN_BOTH: self._write_both,
            SOURCE_ALONE: self._change_source if number % 2 else self._write_source,
            DELETES: self._delete,
            PAYLOAD: self._set_payload,
            NEW_WITHOUT: self._write_source,
        }
        acts[kind](point, number)

    def _write_both(self, point: int, number: int) -> None:
        X = row_of(point, number)
        both = {"raw": X, "pca": PROJECTION.apply(X)}
        self.store.upsert(NAME, [point], both, [{"number": number}])
        self.raw[point], self.number[point] = X, number

    def _write_source(self, point: int, number: int) -> None:
        X = row_of(point, number)
        self.without.add(point)
        if point < self.n:
            self.changed_alone.add(point)
        self.store.upsert(NAME, [point], {"raw": X}, [{"number": number}])
        self.raw[point], self.number[point] = X, number

    def _change_source(self, point: int, number: int) -> None:
        X = row_of(point, number)
        self.changed_alone.add(point)
        self.store.update_vectors(NAME, "raw", [point], X)
        self.raw[point] = X

    def _set_payload(self, point: int, number: int) -> None:
        self.store.set_payload(NAME, [point], {"number": number})
        self.number[point] = number

    def _delete(self, point: int, number: int) -> None:
        self.store.delete(NAME, [point])
        self.deleted.add(point)
        self.raw.pop(point, None)
        self.number.pop(point, None)

    def check(self) -> tuple[set[PointId], set[PointId]]:
        """Check that nothing was lost; return the points that lack the vector, and stale ones."""
        collection = ImageCollection.open(self.store, NAME)
        pages = list(collection.scroll(vectors=["raw", "pca"], payload=True))
        ids = [int(point) for page in pages for point in page.ids]
        assert ids == sorted(self.raw)
        assert not self.deleted & set(ids)
        numbers = [payload["number"] for page in pages for payload in page.payloads]
        assert numbers == [self.number[point] for point in ids]
        X, Z = (np.concatenate([page.vectors[name] for page in pages]) for name in ("raw", "pca"))
        # float32 rows, divided by their length once more
        np.testing.assert_allclose(X, np.concatenate([self.raw[i] for i in ids]), atol=1e-6)
        lacks = np.isnan(Z[:, 0])
        # float32 dot products over 16 terms, stored normalised
        stale = np.abs(Z - unit_rows(PROJECTION.apply(X))).max(axis=1) > 1e-5
        found = verify_vector(collection, PROJECTION, n=len(ids)).stale_ids
        assert sorted(found, key=int) == [ids[row] for row in np.flatnonzero(stale)]
        return {ids[row] for row in np.flatnonzero(lacks)}, set(found)

    def check_end(self, summary: BackfillSummary) -> None:
        """Check what a backfill may leave, and that nothing but the third kind makes it stale."""
        lacking, stale = self.check()
        assert lacking <= self.without
        assert stale <= self.changed_alone
        assert summary.unprojectable == 0
        assert summary.projected >= self.n - len(self.deleted) - self.n_writes[AGAIN_BOTH]


class BetweenPages(Projection):
    """Lets writers write after each page was read and before it is written.

    Each write hits the page at hand, then one that was filled, then one that is to come.
    """

    def __init__(self, shop: Shop, kinds: Iterable[str], batch_size: int) -> None:
        super().__init__(PROJECTION.matrix, "pca", "test", "ab")
        object.__setattr__(self, "turns", turns(shop, list(kinds), batch_size))

    def apply(self, X: Floats) -> Floats:
        """Project."""
        next(self.turns)  # type: ignore[attr-defined]
        return super().apply(X)


def turns(shop: Shop, kinds: Sequence[str], batch_size: int) -> Iterator[None]:
    """Let every kind write at each page, two points at hand, behind and ahead."""
    n_pages, turn = shop.n // batch_size, 0
    while True:
        for page in ((turn + step) % n_pages for step in (0, -1, 1)):
            for kind in kinds:
                mine = [i for i in shop.ids(kind) if i // batch_size == page]
                for place in (2 * turn, 2 * turn + 1):
                    shop.write(kind, mine[place % len(mine)])
        turn += 1
        yield


@contextmanager
def live_writers(shop: Shop, kinds: Iterable[str] = KINDS) -> Iterator[None]:
    """Let a thread of each kind write `A_SECOND` times a second, to points at random."""
    end, errors = threading.Event(), []

    def work(kind: str) -> None:
        rng = np.random.default_rng(KINDS.index(kind))
        try:
            # Who writes both must know that there are two.
            while kind in (NEW_BOTH, AGAIN_BOTH) and "pca" not in shop.store.info(NAME).vectors:
                end.wait(0.01)
            while not end.wait(1 / A_SECOND):
                shop.write(kind, int(rng.choice(shop.ids(kind))))
        except BaseException as error:  # noqa: BLE001  raised by the test's thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(kind,)) for kind in kinds]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join(60)
    if errors:
        raise errors[0]
