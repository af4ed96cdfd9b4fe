from __future__ import annotations

import io
import logging
import sys
import time
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any

import numpy as np
import pytest
from tqdm import tqdm

from intramodal import (
    ImageCollection,
    compare,
    evaluate_fewshot,
    evaluate_retrieval,
    measure_misalignment,
    open_store,
)
from intramodal.errors import StoreUnavailable
from intramodal.progress import (
    LONG_S,
    MEASURED_S,
    LongRead,
    announced,
    foretold,
    long_reads_told,
    progress,
    tracked,
    waiting,
)
from intramodal.store.manifest import VectorOrigin
from intramodal.types import VectorTable

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


def test_what_is_done_with_the_pages_counts_too() -> None:
    clock, found = Clock(), []
    with long_reads_told(found.append):
        for _ in foretold([PAGE] * 100, int, lambda: 100 * PAGE, clock=clock):
            clock.now += 2.0
    assert [read.seconds for read in found] == [200.0]


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


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """Return what was drawn, one text for each time."""
        return [line.strip() for line in self.getvalue().split("\r") if line.strip()]


def terminal_of(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Return a terminal of 80 columns whose bars come at once; not before the test itself."""
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr("intramodal.progress.QUICK_S", 0.01)
    return stderr


def drawn(terminal: Terminal, text: str) -> str:
    """Return the first line with a text as soon as the terminal shows one."""
    deadline = time.monotonic() + 30
    while True:
        for line in terminal.lines():
            if text in line:
                return line
        assert time.monotonic() < deadline, terminal.lines()
        time.sleep(0.005)


def test_a_bar_names_the_field_at_work_before_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    fields = ["gender", "season", "kind"]
    steps = tracked(fields, "compare", unit="field", name=str)
    assert next(steps) == "gender"
    assert drawn(terminal, "compare: field 1 of 3: gender   0%")
    assert next(steps) == "season"
    assert "33%" in drawn(terminal, "compare: field 2 of 3: season")
    assert list(steps) == ["kind"]


def test_a_bar_counts_fields_where_each_has_two_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    pairs = [(field, vector) for field in ("gender", "season") for vector in ("raw", "pca")]
    steps = tracked(pairs, "retrieval", unit="field", name=itemgetter(0), part=itemgetter(1))
    for field, vector in steps:
        position = ["gender", "season"].index(field) + 1
        assert drawn(terminal, f"retrieval: field {position} of 2: {field}, {vector}")


def test_long_names_leave_room_for_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    name = "a field with a name that is longer than the terminal is wide"
    for _ in tracked([name], "few-shot with text", unit="field", name=str, part=str.upper):
        line = drawn(terminal, "few-shot with text: field 1 of 1: a field with a name that is…")
        assert "0%|" in line[:80]


def test_a_bar_says_what_it_counts_with_and_without_a_total(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = terminal_of(monkeypatch)
    with progress(8, "ingest into photos", unit="images") as bar:
        bar.update(2)
        assert "2/8 images [" in drawn(terminal, "ingest into photos:  25%|")
    with progress(None, "ingest into shards", unit="images") as bar:
        bar.update(2)
        assert drawn(terminal, "ingest into shards: 2 images [")


def test_a_wait_shows_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    with waiting("wait for the index of photos") as bar:
        bar.set_postfix_str("12 points left")
        assert drawn(terminal, "wait for the index of photos [00:00, 12 points left]")


def test_nothing_is_drawn_where_stderr_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    list(tracked(["a"], "compare", unit="field", name=str))
    with progress(1, "ingest", unit="images") as bar:
        bar.update(1)
        assert bar.disable
    assert capsys.readouterr().err == ""


def test_reading_a_collection_says_how_many_points_are_read(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    X = rng.normal(size=(40, 4)).astype(np.float32)
    with open_store(":memory:") as store:
        origin = VectorOrigin("ours", "3f9a")
        photos = ImageCollection.create(store, "photos", {"raw": (4, origin)})
        photos.write(list(range(40)), {"raw": X}, [{}] * 40)
        photos.info()
        terminal = terminal_of(monkeypatch)
        pages = photos.scan(vectors=["raw"], batch_size=10)
        next(pages), next(pages)
        assert "10/40 points [" in drawn(terminal, "read photos:  25%|")
        assert sum(len(page.ids) for page in pages) == 20


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what bars say, step by step, in the order of the steps."""
    said: list[str] = []

    class Bar(tqdm):  # type: ignore[misc]
        def set_description_str(self, desc: str | None = None, refresh: bool = True) -> None:
            said.append(str(desc))

    monkeypatch.setattr("intramodal.progress._bar_type", lambda: Bar)
    return said


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        (compare, ["compare: field 1 of 2: kind", "compare: field 2 of 2: season"]),
        (
            evaluate_retrieval,
            [
                f"retrieval: field {n} of 2: {field}, {vector}"
                for n, field in enumerate(("kind", "season"), 1)
                for vector in ("raw", "pca")
            ],
        ),
        (
            evaluate_fewshot,
            [
                f"few-shot: field {n} of 2: {field}, {vector}"
                for n, field in enumerate(("kind", "season"), 1)
                for vector in ("raw", "pca")
            ],
        ),
        (
            measure_misalignment,
            ["misalignment: vector 1 of 2: raw", "misalignment: vector 2 of 2: pca"],
        ),
    ],
)
def test_jobs_name_the_field_and_the_vector_at_work(
    job: Any, expected: list[str], steps: list[str], rng: np.random.Generator
) -> None:
    X = rng.normal(size=(48, 8)).astype(np.float32)
    payload = {"kind": [i % 4 for i in range(48)], "season": [i % 3 for i in range(48)]}
    table = VectorTable(list(range(48)), {"raw": X, "pca": X[:, :4].copy()}, payload)
    vectors: Any = {"a": "raw", "b": "pca"} if job is compare else {"vectors": ["raw", "pca"]}
    if job is evaluate_fewshot:
        vectors |= {"shots": [1], "episodes": 2}
    job(table, **vectors, fields=["kind", "season"])
    assert steps == expected


def test_what_takes_longer_than_a_blink_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    monkeypatch.setattr("intramodal.progress.BLINK_S", 0.01)
    with announced("loading clip\x1b[2J ..."):
        assert drawn(terminal, "loading clip\\x1b[2J ...")
    assert terminal.getvalue() == "loading clip\\x1b[2J ...\n"


def test_neither_a_blink_nor_a_pipe_is_announced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("intramodal.progress.BLINK_S", 0.01)
    with announced("loading clip ..."):
        time.sleep(0.1)
    assert capsys.readouterr().err == ""
    terminal = terminal_of(monkeypatch)
    monkeypatch.setattr("intramodal.progress.BLINK_S", 30.0)
    with announced("loading clip ..."):
        pass
    assert terminal.getvalue() == ""
