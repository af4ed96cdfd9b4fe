"""The progress bar of an ingest learns how many pictures there are."""

from __future__ import annotations

import io
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tqdm import tqdm

from intramodal.errors import SourceError
from intramodal.ingest.sources.base import Records, Source
from intramodal.ingest.sources.formats import open_source
from intramodal.ingest.workers import counted
from tests.unit.ingest.pipeline_kit import png

DEADLINE_S = 30.0


def bar() -> Any:
    return tqdm(total=None, file=io.StringIO(), unit="img")


def total_of(source: Source) -> int:
    """Return the total that the bar has soon after the counting began."""
    with bar() as shown, counted(source, shown):
        deadline = time.monotonic() + DEADLINE_S
        while shown.total is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        total: int = shown.total
        return total


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = ("a.png", "b.JPG", "deep/er/c.webp", ".hidden.png", ".git/d.png", "notes.txt")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png(1))
    (tmp_path / "list.csv").write_text("path,label\na.png,x\n\nb.JPG,y\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(("location", "n"), [(".", 3), ("list.csv", 2)])
def test_folders_and_lists_are_counted(folder: Path, location: str, n: int) -> None:
    assert total_of(open_source(str(folder / location), label_from=None)) == n


def test_shards_and_paths_on_stdin_are_not(folder: Path) -> None:
    with tarfile.open(folder / "shard.tar", "w") as shard:
        shard.add(folder / "a.png", "a.png")
    for location in (str(folder / "shard.tar"), "-"):
        assert open_source(location, label_from=None).names() is None


class Endless(Source):
    """A source whose count never ends, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__("endless")
        self.error = error
        self.is_asked = threading.Event()

    def _records(self) -> Records:
        yield from ()

    def names(self) -> Iterator[object]:
        self.is_asked.set()
        if self.error:
            raise self.error
        while True:
            yield "x"


def test_the_count_ends_with_the_ingest() -> None:
    with bar() as shown:
        with counted(Endless(), shown):
            assert any(t.name.startswith("count") for t in threading.enumerate())
        assert not any(t.name.startswith("count") for t in threading.enumerate())
        assert shown.total is None


@pytest.mark.parametrize("error", [OSError("gone"), SourceError("no column")])
def test_a_count_that_fails_is_no_failure(error: Exception) -> None:
    source = Endless(error)
    with bar() as shown:
        with counted(source, shown):
            assert source.is_asked.wait(DEADLINE_S)
        assert shown.total is None


def test_nothing_is_counted_where_no_bar_is_drawn() -> None:
    with tqdm(disable=True) as shown, counted(Endless(), shown):
        assert not any(t.name.startswith("count") for t in threading.enumerate())
