"""Seeded schedules of faults, a clock that never waits, and what must come of them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import StoreError, StoreUnavailable
from intramodal.projection.projection import Projection
from intramodal.store.base import Cluster
from intramodal.store.manifest import VectorOrigin
from intramodal.store.server.client import Connection, Retry, connect_server
from intramodal.store.server.store import ServerStore
from intramodal.types import Payload, PointId, point_id, unit_rows
from tests.faults.proxy import Fault, FaultProxy, Served, busy, failing, page
from tests.faults.wire import Point, WireServer

DEADLINE_S = 120.0
ORIGIN = VectorOrigin("test", "ab")

TRANSIENT: list[Fault] = [
    Fault("refuse"),
    Fault("reset"),
    Fault("late"),
    Fault("lose"),
    Fault("stall"),
    Fault("half"),
    Fault("cut"),
    busy("2"),
    busy("0"),
    busy(None),
    failing(408),
    failing(500),
    failing(503),
    failing(503, is_applied=True),
    page(502),
    page(504),
    page(504, is_applied=True),
]
"""Faults after which the same request is worth another try."""

HTML = page()
"""A web page with status 200: somebody else answers, and asking again will not help."""


@dataclass(frozen=True)
class Slept:
    """One pause of the client."""

    seconds: float


@dataclass
class Clock:
    """Time that passes only while somebody sleeps; every pause goes into the journal."""

    journal: list[Any] = field(default_factory=list)
    now: float = 0.0

    def sleep(self, seconds: float) -> None:
        """Return at once."""
        self.journal.append(Slept(seconds))
        self.now += seconds

    def retry(self, deadline_s: float = DEADLINE_S) -> Retry:
        """Return our retry on this clock."""
        return Retry(
            deadline_s=deadline_s, clock=lambda: self.now, sleep=self.sleep, rng=random.Random(1)
        )


def schedule(rng: np.random.Generator, n_requests: int = 40) -> list[Fault | None]:
    """Return bursts of faults with quiet requests between them.

    Every third schedule has an outage longer than any deadline; every sixth a login page.
    """
    steps: list[Fault | None] = [None] * int(rng.integers(0, 5))
    while len(steps) < n_requests:
        kinds = rng.choice(len(TRANSIENT), size=rng.integers(1, 5))
        steps += [TRANSIENT[kind] for kind in kinds]
        steps += [None] * int(rng.integers(1, 13))
    if rng.random() < 1 / 3:
        patient = [fault for fault in TRANSIENT if fault.kind != "stall"]
        steps[int(rng.integers(n_requests)) :] = [patient[rng.integers(len(patient))]] * 1000
    if rng.random() < 1 / 6:
        steps.insert(int(rng.integers(n_requests)), HTML)
    return steps


@dataclass
class Wire:
    """A store whose every request passes the proxy, on a clock that never waits.

    Parameters
    ----------
    journal : list
        The requests of the proxy and the pauses of the clock, in order.
    """

    server: WireServer
    proxy: FaultProxy
    connection: Connection
    clock: Clock
    journal: list[Any]

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[Wire]:
        """Yield a whole wire, from a client to an empty server."""
        journal: list[Any] = []
        clock = Clock(journal)
        with WireServer() as server, FaultProxy(server.url, journal) as proxy:
            connection = connect_server(proxy.url, retry=clock.retry())
            proxy.watch(connection.client)
            yield cls(server, proxy, connection, clock, journal)
            connection.client.close()

    def store(self) -> ServerStore:
        """Return a store that knows nothing yet, as after a restart.

        It writes in one stream: the pauses of several would mix in the journal.
        """
        cluster = Cluster(upload_streams=1)
        return ServerStore(self.connection, retry=self.clock.retry(), cluster=cluster)

    def served(self) -> list[Served]:
        """Return the requests so far."""
        return [event for event in self.journal if isinstance(event, Served)]

    def pauses(self) -> list[float]:
        """Return the pauses so far, in seconds."""
        return [event.seconds for event in self.journal if isinstance(event, Slept)]


@dataclass(frozen=True)
class Truth:
    """What must be stored in the end, computed without a store.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Unit rows.
    projected : ndarray of shape (n, d // 2)
        Unit rows of the projection, in float64.
    atol : float
        Of both; 0 where `X` holds what was sent, as a server keeps the bits of unit rows.
    """

    ids: list[PointId]
    X: NDArray[Any]
    payloads: list[Payload]
    projection: Projection
    projected: NDArray[np.float64]
    atol: float = 0.0

    @classmethod
    def of(cls, n: int, d: int) -> Truth:
        """Return `n` random points."""
        rng = np.random.default_rng(n)
        X = unit_rows(rng.normal(size=(n, d)))
        matrix = np.linalg.qr(rng.normal(size=(d, d // 2)))[0].astype(np.float32)
        return cls(
            ids=[point_id("faults", f"{i}.jpg") for i in range(n)],
            X=X,
            payloads=[{"label": "abc"[i % 3], "n": i} for i in range(n)],
            projection=Projection(matrix, "pca", ORIGIN.encoder, ORIGIN.encoder_fingerprint),
            projected=projected(X, matrix),
        )

    def check(self, stored: Mapping[PointId, Point], *, is_projected: bool) -> None:
        """Compare every id, vector and payload."""
        assert set(stored) == set(self.ids)
        points = [stored[i] for i in self.ids]
        assert [point.payload for point in points] == self.payloads
        names = {"raw", "pca"} if is_projected else {"raw"}
        assert all(set(point.vectors) == names for point in points)
        raw = np.array([point.vectors["raw"] for point in points])
        np.testing.assert_allclose(raw, self.X, rtol=0, atol=self.atol)
        if is_projected:
            pca = np.array([point.vectors["pca"] for point in points])
            # float32 products over 16 terms against float64
            np.testing.assert_allclose(pca, self.projected, rtol=0, atol=max(self.atol, 1e-6))


def projected(X: NDArray[Any], matrix: NDArray[Any]) -> NDArray[np.float64]:
    """Return the unit rows of the product, in float64."""
    rows = X.astype(np.float64) @ matrix.astype(np.float64)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def check_journal(journal: Sequence[Any], error: StoreError | None) -> None:
    """Check every pause against the faults before it, and the error against the failures.

    There may be two: a thread that writes behind begins another call before its caller learns
    that one has failed.
    """
    failures: list[str] = []
    n_faults, slept = 0, 0.0
    for n, event in enumerate(journal):
        following = journal[n + 1] if n + 1 < len(journal) else None
        if isinstance(event, Slept):
            slept += event.seconds
            continue
        n_faults += event.fault is not None
        if event.fault in (None, HTML):
            assert not isinstance(following, Slept), "a pause where none helps"
            failures += ["not Qdrant's"] if event.fault else []
        elif isinstance(following, Slept):
            _check_pause(event.fault, n_faults, slept, following.seconds)
            continue
        else:
            _check_end(event.fault, n_faults, slept)
            failures.append(f"(gave up after {n_faults} attempts in {slept:.0f} s)")
        n_faults, slept = 0, 0.0
    assert (error is None) == (not failures), f"{error}, {failures}"
    if error is not None:
        assert any(failure in str(error) for failure in failures), f"{error}, {failures}"
        assert isinstance(error, StoreUnavailable) == ("gave up" in str(error))
        assert "\n" not in str(error)


def _check_pause(fault: Fault, n_faults: int, slept: float, pause: float) -> None:
    """Pauses double from 0.1 s up to 10 s, are up to a half shorter, and end at the deadline."""
    longest = _longest_pause(n_faults)
    assert longest / 2 <= pause - fault.retry_after_s <= longest
    assert slept + pause <= DEADLINE_S


def _check_end(fault: Fault, n_faults: int, slept: float) -> None:
    """Nobody gives up while the longest pause would still end before the deadline."""
    assert slept + fault.retry_after_s + _longest_pause(n_faults) > DEADLINE_S


def _longest_pause(n_faults: int) -> float:
    return min(10.0, 0.1 * 2.0 ** (n_faults - 1))
