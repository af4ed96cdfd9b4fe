"""Reading many rows takes no more memory than reading few. Issue 20, item 8."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

N_FEW, N_MANY, DIM = 20_000, 120_000, 8
MOST_MORE_MB = {"parquet": 4.7, "vectors": 10.0, "csv": 8.0, "jsonl": 8.0}
"""A tenth of a kilobyte for each further row; keeping an id and its payload takes several. Of
Parquet, Arrow holds a page and a dictionary of each column, up to 1 MB each."""

READ = """
import sys
from pathlib import Path
import intramodal.cli
import intramodal.ingest.vectors.ready as ready
from tests.faults.hostile import highest_mb

def read(**nothing):
    folder, kind, n = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    list(opened(folder, kind, 10).blocks(1000))
    before = highest_mb()
    n_rows = sum(len(block.points) for block in opened(folder, kind, n).blocks(1000))
    mapped_mb = 0 if kind == "vectors" else 8 * 4 / 2**20 * n_rows  # counts as memory
    print(n_rows, highest_mb() - before - mapped_mb)

def opened(folder, kind, n):
    if kind == "vectors":
        return ready.open_ready(folder / f"rows{n}.parquet", dataset="d")
    return ready.open_ready(folder / f"X{n}.npy", dataset="d", table=folder / f"rows{n}.{kind}")

intramodal.cli.cli = read
intramodal.cli.main()  # which sets up the process
"""


def write(folder: Path, kind: str, n: int) -> None:
    np.save(folder / f"X{n}.npy", np.ones((n, DIM), dtype=np.float32))
    rows: list[dict[str, Any]] = [
        {"id": f"sku-{i:09}", "path": f"a/{i}.jpg", "label": f"c{i % 7}", "price": i / 7}
        for i in range(n)
    ]
    path = folder / f"rows{n}.{kind}"
    if kind in ("parquet", "vectors"):
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        table = pa.Table.from_pylist(rows)
        if kind == "vectors":
            X = np.random.default_rng(0).normal(size=n * DIM).astype(np.float32)
            X = pa.FixedSizeListArray.from_arrays(pa.array(X), DIM)
            table = table.append_column("vector", X)
        pq.write_table(table, path.with_suffix(".parquet"))
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


@pytest.mark.skipif(sys.platform == "win32", reason="reads the peak of memory as POSIX tells it")
@pytest.mark.parametrize(
    "kind",
    ["parquet", "vectors", *(pytest.param(k, marks=pytest.mark.slow) for k in ("csv", "jsonl"))],
)
def test_more_rows_take_no_more_memory(tmp_path: Path, kind: str) -> None:
    grown = []
    for n in (10, N_FEW, N_MANY):
        write(tmp_path, kind, n)
    for n in (N_FEW, N_MANY):
        command = [sys.executable, "-c", READ, str(tmp_path), kind, str(n)]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        assert int(told[0]) == n
        grown.append(float(told[1]))
    assert grown[1] - grown[0] < MOST_MORE_MB[kind], grown


N_SMALL_PAGES, MOST_ARROW_MB = (16_000, 96_000), 0.3
"""Rows of the row groups, and what Arrow may hold more of the large one, of several MB."""

READ_ARROW = """
import sys
import pyarrow as pa
import intramodal.cli
from intramodal.ingest.label_file import read_labels
from intramodal.ingest.sources.formats import open_source
from intramodal.ingest.vectors.matrices import open_matrix
from intramodal.ingest.vectors.ready import open_ready

WAYS = {
    "ready": lambda file: open_ready(file, dataset="d").blocks(1000),
    "matrix": lambda file: open_matrix(file).blocks(1000),
    "list": open_source,
    "images": open_source,
    "labels": lambda file: [read_labels(file)],
}

def read(**nothing):
    for _ in WAYS[sys.argv[1]](sys.argv[2]):
        pass
    print(pa.default_memory_pool().max_memory() / 2**20)

intramodal.cli.cli = read
intramodal.cli.main()  # which sets up the process
"""


def write_small_pages(path: Path, way: str, n: int) -> None:
    """Write one row group of many pages: what Arrow holds of a column is a page."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    random = np.random.default_rng(0)
    columns: dict[str, Any] = {
        "id": [f"sku-{i:09}" for i in range(n)],
        "label": [f"c{i * 7919 % n}" for i in range(n)],
        "price": [i / 7 for i in range(n)],
    }
    if way in ("ready", "matrix"):
        X = random.normal(size=n * DIM).astype(np.float32)
        columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(X), DIM)
    if way == "list":
        columns["path"] = [f"a/{i}.jpg" for i in range(n)]
    if way == "images":
        columns["image"] = [{"bytes": random.bytes(16), "path": f"{i}.png"} for i in range(n)]
    small = {"data_page_size": 2**16, "dictionary_pagesize_limit": 2**16}
    pq.write_table(pa.table(columns), path, row_group_size=n, **small)


@pytest.mark.parametrize(
    "way",
    [
        *("ready", "images"),
        *(pytest.param(way, marks=pytest.mark.slow) for way in ("matrix", "list", "labels")),
    ],
)
def test_a_reader_of_parquet_holds_pages_and_no_row_group(tmp_path: Path, way: str) -> None:
    held = []
    for n in N_SMALL_PAGES:
        path = tmp_path / f"rows{n}.parquet"
        write_small_pages(path, way, n)
        command = [sys.executable, "-c", READ_ARROW, way, str(path)]
        told = subprocess.run(command, check=True, capture_output=True, text=True)
        held.append(float(told.stdout))
    assert path.stat().st_size > 2 * MOST_ARROW_MB * 2**20
    assert held[1] - held[0] < MOST_ARROW_MB, held
