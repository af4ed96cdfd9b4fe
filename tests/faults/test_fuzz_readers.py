"""Every reader is given damaged files, and what it takes of them comes back from a store.

A file is read or refused in one of our sentences. Of one that is read, every row is in the store
or listed, and a repeat finds what the first time has written. ``INTRAMODAL_FUZZ_S`` says for how
many seconds each reader is fuzzed (by default a few files are enough), ``INTRAMODAL_FUZZ_SEED``
where to begin; the seed of a file that fails is in the failure's name.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from intramodal.errors import IntramodalError
from intramodal.ingest.pipeline import (
    IngestSummary,
    ingest_images,
    ingest_vectors,
    vectors_collection,
)
from intramodal.ingest.sources.formats import open_source
from intramodal.ingest.vectors.load import vectors_of
from intramodal.ingest.vectors.ready import open_ready
from intramodal.store.base import Store
from intramodal.store.manifest import VectorOrigin
from intramodal.store.open import open_store
from tests.faults.hostile import Rng, encoded, highest_mb, picture
from tests.plain_encoder import PlainEncoder, collection_for, write_pictures
from tests.security.test_damaged_files import damaged

FUZZ_S = float(os.environ.get("INTRAMODAL_FUZZ_S", "0"))
SEED = int(os.environ.get("INTRAMODAL_FUZZ_SEED", "0"))
N_AT_LEAST = 15

LONGEST_S = 10.0
"""No file holds a reader longer."""
MOST_GROWN_MB = 400.0
LONGEST_SENTENCE = 1200
N_ROWS, DIM = 6, 4
X = np.random.default_rng(7).normal(size=(N_ROWS, DIM)).astype(np.float32)
ORIGIN = VectorOrigin("clip", "declared:clip")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="reads the peak of memory")

TOKENS = (
    *(b'"', b'""', b",", b"\t", b"\n", b"\r\n", b"\r", b"\0", b"\xef\xbb\xbf", b"\xff", b"'"),
    *(b"NaN", b"-Infinity", b"1e999", b"18446744073709551616", b"-0", b"null", b"true", b"{}"),
    *(b"[" * 50, b'{"a":', b"]", b"}", b"\\ud800", b"\\u0000", b"..", b"/", b"a" * 300, b"id"),
    *(b"=1+1", b"\xc2\x85", b"\xe2\x80\xa8", b"0.png", b"1.png", b"path", b"label", b"17.0"),
)


def edited(data: bytes, rng: Rng) -> bytes:
    """Return a text with some tokens put in, or lines swapped, doubled or left out."""
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(data) + 1))
        upto = min(at + int(rng.integers(0, 3)), len(data))
        data = data[:at] + TOKENS[int(rng.integers(len(TOKENS)))] + data[upto:]
    if rng.random() < 1 / 3:
        lines = data.splitlines(keepends=True)
        order = rng.integers(0, len(lines), len(lines))
        data = b"".join(lines[n] for n in order)
    return data


def fuzzed(data: bytes, seed: int, *, is_text: bool) -> bytes:
    rng = np.random.default_rng([SEED, seed])
    if is_text and rng.random() < 3 / 4:
        return edited(data, rng)
    return damaged(data, int(rng.integers(2**31)))


# The readers: what a sound file holds, and how it is taken.


def rows() -> list[dict[str, object]]:
    return [
        {"id": n, "path": f"{n}.png", "label": f"c{n % 2}", "price": n / 4} for n in range(N_ROWS)
    ]


def table(separator: str) -> bytes:
    lines = [separator.join(map(str, row.values())) for row in rows()]
    return "\n".join([separator.join(rows()[0]), *lines, ""]).encode()


def jsonl() -> bytes:
    nested = [{**row, "more": {"a": [1, None, 2.5]}} for row in rows()]
    return "".join(json.dumps(row) + "\n" for row in nested).encode()


def parquet() -> bytes:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(X.reshape(-1)), DIM)
    columns = {name: [row[name] for row in rows()] for name in rows()[0]}
    file = io.BytesIO()
    pq.write_table(pa.table({**columns, "vector": vectors}), file)
    return file.getvalue()


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, X)
    return file.getvalue()


def shard() -> bytes:
    rng, file = np.random.default_rng(3), io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for n in range(3):
            members = {
                f"{n}.png": encoded(picture(rng), "PNG"),
                f"{n}.json": json.dumps({"label": n}).encode(),
                f"{n}.txt": b"a text",
            }
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def split_file() -> bytes:
    entries = [[f"{n}.png", n % 2, f"c{n % 2}"] for n in range(N_ROWS)]
    return json.dumps({"train": entries[:3], "val": entries[3:4], "test": entries[4:]}).encode()


def ground_truth() -> bytes:
    judged = {"bbx": [1.0, 2.0, 8.0, 9.0], "easy": [0, 1], "hard": [2], "junk": [3]}
    return pickle.dumps(
        {"imlist": ["0", "1", "2", "3"], "qimlist": ["4", "5"], "gnd": [judged, judged]},
        protocol=2,
    )


@dataclass
class Place:
    """Where a fuzzed file is taken from and to."""

    store: Store
    folder: Path

    def images(self, source: str, **options: object) -> int:
        """Ingest images twice; returns how many were read, those that are listed included."""
        encoder = PlainEncoder()

        def ingested() -> IngestSummary:
            photos = collection_for(self.store, encoder)
            opened = open_source(source, **options)  # type: ignore[arg-type]
            return ingest_images(opened, photos, encoder=encoder, workers=0)

        return self._twice(ingested)

    def vectors(self, path: Path, table: Path | None = None) -> int:
        """Ingest ready vectors twice; returns how many rows there were."""

        def ingested() -> IngestSummary:
            ready = open_ready(path, dataset="d", table=table)
            made = vectors_of(ready, ORIGIN, "raw", None)
            return ingest_vectors(ready, vectors_collection(self.store, "photos", made))

        return self._twice(ingested)

    def _twice(self, ingested: Callable[[], IngestSummary]) -> int:
        if self.store.exists("photos"):
            self.store.drop("photos")
        done, again = ingested(), ingested()
        n_failed = sum(failure["stage"] != "metadata" for failure in done.failures)
        n_stored = sum(len(page.ids) for page in self.store.scroll("photos"))
        assert n_stored == done.written
        assert (again.written, again.updated, again.skipped) == (0, 0, done.written)
        assert again.failures == done.failures
        return done.written + n_failed


def lines_of(data: bytes) -> int:
    """Return how many lines of JSON a file has; a lone return ends one, too."""
    lines = data.decode("utf-8-sig").replace("\r", "\n").split("\n")
    return sum(bool(line.strip()) for line in lines)


def rows_of(data: bytes) -> int | None:
    """Return how many rows a CSV has, None where quotes or lone returns leave it to the parser."""
    text = data.decode("utf-8-sig").replace("\r\n", "\n")
    return None if '"' in text or "\r" in text else sum(map(bool, text.split("\n"))) - 1


Take = Callable[[Place, Path], int]
Count = Callable[[bytes], int | None]


def with_matrix(at: Place, path: Path) -> int:
    """Take a table as metadata of a sound matrix."""
    np.save(at.folder / "X.npy", X)
    return at.vectors(at.folder / "X.npy", path)


def with_table(at: Place, path: Path) -> int:
    """Take a matrix with sound metadata."""
    (at.folder / "rows.csv").write_bytes(table(","))
    return at.vectors(path, at.folder / "rows.csv")


def no_count(data: bytes) -> None:
    """Leave the count to the reader."""


def as_list(at: Place, path: Path) -> int:
    return at.images(str(path))


READERS: dict[str, tuple[str, Callable[[], bytes], Take, Count]] = {
    "CSV list": (".csv", lambda: table(","), as_list, rows_of),
    "TSV list": (".tsv", lambda: table("\t"), as_list, rows_of),
    "JSONL list": (".jsonl", jsonl, as_list, lines_of),
    "Parquet list": (".parquet", parquet, as_list, no_count),
    "CSV metadata": (".csv", lambda: table(","), with_matrix, lambda data: N_ROWS),
    "JSONL metadata": (".jsonl", jsonl, with_matrix, lambda data: N_ROWS),
    "Parquet metadata": (".parquet", parquet, with_matrix, lambda data: N_ROWS),
    "npy": (".npy", npy, with_table, lambda data: N_ROWS),
    "safetensors": (".safetensors", lambda: save({"x": X}), with_table, lambda data: N_ROWS),
    "Parquet vectors": (".parquet", parquet, lambda at, path: at.vectors(path), no_count),
    "shard": (".tar", shard, as_list, no_count),
    "split file": (
        ".json",
        split_file,
        lambda at, path: at.images(str(at.folder), split_file=path),
        no_count,
    ),
    "ground truth": (
        ".pkl",
        ground_truth,
        lambda at, path: at.images(str(at.folder), ground_truth=path, crop=True),
        no_count,
    ),
}
TEXTS = (".csv", ".tsv", ".jsonl", ".json")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    write_pictures(tmp_path, N_ROWS)
    for n, path in enumerate(sorted(tmp_path.rglob("*.png"))):
        path.rename(tmp_path / f"{n}.png")
    with open_store(":memory:") as store:
        yield Place(store, tmp_path)


def is_taken(at: Place, path: Path, take: Take, count: Count) -> bool:
    """Return whether a file was read, and not refused; raise for anything else."""
    try:
        n_found = take(at, path)
    except IntramodalError as error:
        sentence = str(error)
    else:
        expected = count(path.read_bytes())
        assert expected is None or n_found == expected
        return True
    assert 0 < len(sentence) < LONGEST_SENTENCE
    return False


@pytest.mark.parametrize("reader", READERS)
def test_a_fuzzed_file_is_refused_or_each_of_its_rows_is_stored_or_listed(
    place: Place, reader: str
) -> None:
    """Issue 20."""
    suffix, make, take, count = READERS[reader]
    whole = make()
    path = place.folder / f"list{suffix}"
    path.write_bytes(whole)
    assert is_taken(place, path, take, count), "the sound file itself"
    before, ends, seed = highest_mb(), time.monotonic() + FUZZ_S, 0
    while seed < N_AT_LEAST or time.monotonic() < ends:
        path.write_bytes(fuzzed(whole, seed, is_text=suffix in TEXTS))
        started = time.monotonic()
        try:
            is_taken(place, path, take, count)
        except Exception as error:
            error.add_note(
                f"INTRAMODAL_FUZZ_SEED={SEED}, file {seed}: {path.read_bytes()!r:.2000}"
            )
            raise
        assert time.monotonic() - started < LONGEST_S, f"seed {SEED}, file {seed}"
        seed += 1
    assert highest_mb() - before < MOST_GROWN_MB
