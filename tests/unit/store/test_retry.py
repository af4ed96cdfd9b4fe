from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from qdrant_client import QdrantClient

from intramodal.errors import AccessDenied, StoreUnavailable
from intramodal.store.server.client import Caller, Connection, Retry
from intramodal.store.server.refusals import Overloaded


@dataclass
class Clock:
    """Time that passes only while somebody sleeps."""

    now: float = 0.0
    pauses: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def retry(self, deadline_s: float = 120.0) -> Retry:
        return Retry(
            deadline_s=deadline_s, clock=lambda: self.now, sleep=self.sleep, rng=random.Random(1)
        )


def failing(times: int, error: Exception) -> Callable[[], str]:
    left = [error] * times

    def call() -> str:
        if left:
            raise left.pop()
        return "done"

    return call


def test_a_passing_failure_is_tried_again_with_growing_jittered_pauses() -> None:
    clock = Clock()
    assert clock.retry().run(failing(5, StoreUnavailable("busy"))) == "done"
    assert len(clock.pauses) == 5
    for n, pause in enumerate(clock.pauses):
        assert 0.05 * 2**n <= pause <= 0.1 * 2**n


def test_it_gives_up_before_the_deadline_and_says_how_often_it_tried() -> None:
    clock = Clock()
    with pytest.raises(StoreUnavailable, match=r"busy \(gave up after \d+ attempts in \d+ s\)"):
        clock.retry(deadline_s=30).run(failing(1000, StoreUnavailable("busy")))
    assert clock.now <= 30


def test_other_errors_are_raised_at_once() -> None:
    clock = Clock()
    with pytest.raises(AccessDenied, match="no key"):
        clock.retry().run(failing(1, AccessDenied("no key")))
    assert clock.pauses == []


def test_the_pause_that_a_server_asks_for_is_kept() -> None:
    clock = Clock()
    busy = Overloaded("busy")
    busy.retry_after_s = 7.0
    clock.retry().run(failing(1, busy))
    assert 7.05 <= clock.pauses[0] <= 7.1


def test_pauses_stay_below_the_longest_however_often_it_failed() -> None:
    clock = Clock()
    clock.retry(deadline_s=1e6).run(failing(200, StoreUnavailable("busy")))
    assert max(clock.pauses) <= 10


def test_a_long_pause_that_a_server_asks_for_is_told_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    busy = Overloaded("cannot read 'photos': the server is busy and requests a pause of 20 s")
    busy.retry_after_s = 20.0
    connection = Connection(QdrantClient(":memory:"), "server", "http://host:6333", "1.19.0")
    caller = Caller(connection, clock.retry(deadline_s=1e6))
    caller.call("read 'photos'", failing(2, busy))
    assert [record.message for record in caplog.records] == [
        f"{busy}; this continues automatically"
    ]
    caller.call("read 'photos'", failing(2, busy))  # 40 s later, then 60 s
    assert len(caplog.records) == 2


def test_a_short_pause_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    connection = Connection(QdrantClient(":memory:"), "server", "http://host:6333", "1.19.0")
    caller = Caller(connection, clock.retry())
    caller.call("read 'photos'", failing(3, StoreUnavailable("the connection broke")))
    assert not caplog.records
