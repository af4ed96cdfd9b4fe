"""Background threads: order, errors that reach the caller, and none that is asked again."""

from __future__ import annotations

import threading

import pytest

from intramodal.errors import StoreUnavailable
from intramodal.ingest.workers import Threads


@pytest.mark.parametrize("n", [0, 1, 3])
def test_results_come_in_the_order_of_the_calls(n: int) -> None:
    with Threads(n, "test") as threads:
        futures = (threads.submit(pow, i, 2) for i in range(20))
        assert list(threads.in_order(futures, ahead=4)) == [i * i for i in range(20)]


def test_what_waits_behind_a_failed_call_fails_with_it_and_does_not_begin() -> None:
    """A store that gave up after its deadline is not waited for once more a queued batch."""
    begun = []
    go_on = threading.Event()

    def write(batch: int) -> None:
        begun.append(batch)
        go_on.wait(10)
        raise StoreUnavailable("the store cannot be reached")

    with Threads(1, "store") as threads:
        futures = [threads.submit(write, batch) for batch in range(3)]
        go_on.set()
        for future in futures:
            with pytest.raises(StoreUnavailable):
                threads.result(future)
    assert begun == [0]
