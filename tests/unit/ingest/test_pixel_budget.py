"""The memory that decoding threads share. Issue 20, item 8."""

from __future__ import annotations

import threading
import time

import pytest

from intramodal.ingest.pixel_budget import PixelBudget, default_budget

PATIENCE_S = 10.0


class Taker(threading.Thread):
    """Takes a share, and holds it until it is told to let go."""

    def __init__(self, budget: PixelBudget, n_bytes: int) -> None:
        super().__init__(daemon=True)
        self._budget, self._n_bytes = budget, n_bytes
        self.has_it, self.let_go = threading.Event(), threading.Event()
        self.start()

    def run(self) -> None:
        with self._budget.share() as share:
            share.take(self._n_bytes)
            self.has_it.set()
            self.let_go.wait(PATIENCE_S)

    def waits(self) -> bool:
        return not self.has_it.wait(0.05)

    def finish(self) -> None:
        assert self.has_it.wait(PATIENCE_S)
        self.let_go.set()
        self.join(PATIENCE_S)


def test_threads_hold_no_more_than_the_budget_together() -> None:
    budget, lock, held, most = PixelBudget(100), threading.Lock(), [0], [0]

    def work(n_bytes: int) -> None:
        for _ in range(50):
            with budget.share() as share:
                share.take(n_bytes)
                with lock:
                    held[0] += min(n_bytes, budget.most)
                    most[0] = max(most[0], held[0])
                time.sleep(0)
                with lock:
                    held[0] -= min(n_bytes, budget.most)

    sizes = (30, 45, 60, 100, 250, 7, 7, 99)
    threads = [threading.Thread(target=work, args=[n], daemon=True) for n in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert not any(thread.is_alive() for thread in threads)
    assert 50 < most[0] <= 100


def test_an_image_above_the_budget_is_decoded_alone() -> None:
    budget = PixelBudget(100)
    small = Taker(budget, 1)
    assert small.has_it.wait(PATIENCE_S)
    large = Taker(budget, 1000)
    assert large.waits()
    small.finish()
    assert large.has_it.wait(PATIENCE_S)
    beside = Taker(budget, 1)
    assert beside.waits()
    large.finish()
    beside.finish()


def test_a_large_image_is_not_overtaken_by_small_ones() -> None:
    budget = PixelBudget(100)
    first = Taker(budget, 60)
    assert first.has_it.wait(PATIENCE_S)
    large = Taker(budget, 80)
    assert large.waits()
    small = Taker(budget, 10)  # would fit
    assert small.waits()
    first.finish()
    assert large.has_it.wait(PATIENCE_S)
    assert small.has_it.wait(PATIENCE_S)
    large.finish()
    small.finish()


def test_a_share_taken_again_replaces_the_first_and_a_failure_gives_it_back() -> None:
    budget = PixelBudget(100)

    def fail() -> None:
        with budget.share() as share:
            share.take(90)
            share.take(95)  # would wait for itself
            raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        fail()
    Taker(budget, 100).finish()


def test_the_default_follows_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for free, expected in ((None, 256), (100, 256), (4096, 1024), (10**6, 2048)):
        found = None if free is None else free * 2**20
        monkeypatch.setattr("intramodal.ingest.pixel_budget.free_bytes", lambda n=found: n)
        assert default_budget() == expected * 2**20
