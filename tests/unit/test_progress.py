from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest

from intramodal.errors import StoreUnavailable
from intramodal.progress import LONG_S, MEASURED_S, LongRead, foretold, long_reads_told

PAGE = 1000


class Clock:
    """A clock that a page of a read moves on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def told(n_pages: int, page_s: float, total: Callable[[], int]) -> list[LongRead]:
    """Return what is said about a read whose pages take `page_s` seconds each."""
    clock, found = Clock(), []

    def pages() -> Iterator[int]:
        for _ in range(n_pages):
            clock.now += page_s
            yield PAGE

    with long_reads_told(found.append):
        assert sum(foretold(pages(), int, total, clock=clock)) == n_pages * PAGE
    return found


def refuse() -> int:
    pytest.fail("nothing is counted for a quick read")


def test_a_long_read_is_foretold_once_by_the_rate_of_its_first_pages() -> None:
    (read,) = told(100, 2.0, lambda: 100 * PAGE)
    assert (read.n, read.seconds) == (100 * PAGE, 200.0)
    assert read.seconds_for(10 * PAGE) == 20.0


def test_a_quick_read_is_neither_foretold_nor_counted() -> None:
    assert told(3, MEASURED_S / 4, refuse) == []


def test_a_read_below_the_limit_is_not_foretold() -> None:
    assert told(10, LONG_S / 10, lambda: 10 * PAGE) == []


def test_a_read_whose_points_cannot_be_counted_goes_on() -> None:
    def fail() -> int:
        raise StoreUnavailable("gone")

    assert told(100, 2.0, fail) == []


def test_outside_of_a_command_a_long_read_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "intramodal.progress")
    clock = Clock()

    def pages() -> Iterator[int]:
        for _ in range(3):
            clock.now += LONG_S
            yield PAGE

    list(foretold(pages(), int, lambda: 3 * PAGE, clock=clock))
    assert "3,000 points takes about 360 s" in caplog.text
