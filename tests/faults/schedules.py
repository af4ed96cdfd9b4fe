"""Seeded schedules of faults, a clock that never waits, and what must come of them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from intramodal.errors import StoreError, StoreUnavailable
from intramodal.projection.artifact import Projection
from intramodal.store.connect import Connection, connect_server
from intramodal.store.manifest import VectorOrigin
from intramodal.store.retry import Retry
from intramodal.store.server import ServerStore
from intramodal.types import Floats, Payload, PointId, point_id, unit_rows
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


def schedule(rng: np.random.Generator, n_requests: int = 60) -> list[Fault | None]:
    """Return bursts of faults with quiet requests between them.

    Every fourth schedule has an outage longer than any deadline; every sixth a login page.
    """
    steps: list[Fault | None] = []
    while len(steps) < n_requests:
        steps += [None] * int(rng.integers(0, 9))
        kinds = rng.choice(len(TRANSIENT), size=rng.integers(1, 5))
        steps += [TRANSIENT[kind] for kind in kinds]
    if rng.random() < 1 / 4:
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
        """Return a store that knows nothing yet, as after a restart."""
        return ServerStore(self.connection, retry=self.clock.retry())

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
        Unit rows, so that a server keeps their bits.
    projected : ndarray of shape (n, d // 2)
        Unit rows of the projection, in float64.
    """

    ids: list[PointId]
    X: Floats
    payloads: list[Payload]
    projection: Projection
    projected: np.ndarray[Any, Any]

    @classmethod
    def of(cls, n: int, d: int = 16) -> Truth:
        """Return `n` random points."""
        rng = np.random.default_rng(n)
        X = unit_rows(rng.normal(size=(n, d)))
        matrix = np.linalg.qr(rng.normal(size=(d, d // 2)))[0].astype(np.float32)
        projected = X.astype(np.float64) @ matrix.astype(np.float64)
        return cls(
            ids=[point_id("faults", f"{i}.jpg") for i in range(n)],
            X=X,
            payloads=[{"label": "abc"[i % 3], "n": i} for i in range(n)],
            projection=Projection(matrix, "pca", "test", "ab"),
            projected=projected / np.linalg.norm(projected, axis=1, keepdims=True),
        )

    def check(self, stored: Mapping[PointId, Point], *, is_projected: bool) -> None:
        """Compare every id, vector and payload."""
        assert set(stored) == set(self.ids)
        points = [stored[i] for i in self.ids]
        assert [point.payload for point in points] == self.payloads
        names = {"raw", "pca"} if is_projected else {"raw"}
        assert all(set(point.vectors) == names for point in points)
        np.testing.assert_array_equal([point.vectors["raw"] for point in points], self.X)
        if is_projected:
            projected = np.array([point.vectors["pca"] for point in points])
            # float32 products over 16 terms against float64
            np.testing.assert_allclose(projected, self.projected, atol=1e-6)


def check_journal(journal: Sequence[Any], error: StoreError | None) -> None:
    """Check every pause against the faults before it, and the error against the last fault."""
    n_failures, slept = 0, 0.0
    for n, event in enumerate(journal):
        following = journal[n + 1] if n + 1 < len(journal) else None
        if isinstance(event, Slept):
            slept += event.seconds
        elif event.fault is None:
            assert not isinstance(following, Slept), "a pause without a fault"
            n_failures, slept = 0, 0.0
        elif event.fault == HTML:
            assert following is None, "a login page is asked again"
            assert error is not None
            assert not isinstance(error, StoreUnavailable)
            assert "not Qdrant's" in str(error)
            return
        else:
            n_failures += 1
            _check_pause(event.fault, n_failures, slept, following)
    _check_end(n_failures, slept, journal, error)


def _check_pause(fault: Fault, n_failures: int, slept: float, following: Any) -> None:
    shortest, longest = _pause_bounds(fault, n_failures)
    if following is None:  # given up, and not too early
        assert slept + longest > DEADLINE_S
        return
    assert isinstance(following, Slept), f"{fault} is not followed by a pause"
    assert shortest <= following.seconds <= longest
    assert slept + following.seconds <= DEADLINE_S


def _pause_bounds(fault: Fault, n_failures: int) -> tuple[float, float]:
    """Return the shortest and longest pause: 0.1 s doubled up to 10 s, less up to a half."""
    longest = min(10.0, 0.1 * 2.0 ** (n_failures - 1))
    return fault.retry_after_s + longest / 2, fault.retry_after_s + longest


def _check_end(
    n_failures: int, slept: float, journal: Sequence[Any], error: StoreError | None
) -> None:
    if n_failures == 0:
        assert error is None, str(error)
        return
    assert isinstance(journal[-1], Served)
    assert isinstance(error, StoreUnavailable)
    assert f"(gave up after {n_failures} attempts in {slept:.0f} s)" in str(error)
    assert "\n" not in str(error)
