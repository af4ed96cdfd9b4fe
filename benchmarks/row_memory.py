"""Claim: ready vectors are ingested in memory that hardly depends on how many there are.

Each ingest runs in a process of its own, with the allocator that the commands choose; printed is
how far its private memory (Linux: anonymous, what cannot be dropped) rises above that before the
ingest, without a store (reading, checking and pacing alone) and into an embedded one. "The engine
alone" are the same points written by the same number through qdrant_edge, with nothing of ours.

Measured, 20,000 and 200,000 rows of 8 numbers. Reading takes 0.2 MB more for a matrix alone, 0.9
MB with CSV or JSONL, 8 MB with Parquet and 9 MB from one Parquet file with the vectors: of every
column Arrow holds a page and a dictionary, up to 1 MB each as stored, and a file of 20,000 such
rows is smaller than that. The embedded engine takes 16 MB more by itself, and 25 MB with payload
and an index of the label: it holds ids and index in memory. So an ingest into it takes 16 MB more
for a matrix alone, 24 to 25 MB with CSV or JSONL, 33 to 36 MB with Parquet.

    python benchmarks/row_memory.py
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
DIM, KINDS = 8, ("npy", "csv", "jsonl", "parquet", "vectors")

INGEST = """
import sys
from pathlib import Path
import intramodal.ingest.vectors.load as load
from intramodal.ingest.pipeline import ingest_vectors, vectors_collection
from intramodal.ingest.reader import Tally
from intramodal.ingest.vectors.ready import open_ready
from intramodal.store.manifest import VectorOrigin
from intramodal.store.open import open_store
from benchmarks.row_memory import watched

def ingest(folder, kind, n, where):
    has_table = kind not in ("npy", "vectors")
    table = Path(folder) / f"rows{n}.{kind}" if has_table else None
    matrix = f"V{n}.parquet" if kind == "vectors" else f"X{n}.npy"
    ready = open_ready(Path(folder) / matrix, dataset="d", table=table)
    made = load.vectors_of(ready, VectorOrigin("m", "declared:m"), "raw", None)
    with open_store(where) as store:
        ingest_vectors(ready, vectors_collection(store, f"c{n}", made))

folder, kind, n, where = sys.argv[1:]
if where == ":memory:":
    load.bring_up = lambda collection, batch, *more: Tally(written=len(batch.points))
ingest(folder, kind, 1000, where)  # what is imported and set up once
print(watched(lambda: ingest(folder, kind, n, where)))
"""


ENGINE = """
import shutil, sys, threading, uuid
from pathlib import Path
import numpy as np
import qdrant_edge as edge
from benchmarks.row_memory import watched

def write(folder, kind, n):
    place = Path(folder) / f"engine-{kind}-{n}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    vectors = {"raw": edge.EdgeVectorParams(size=8, distance=edge.Distance.Cosine)}
    shard = edge.EdgeShard.create(str(place), edge.EdgeConfig(vectors=vectors))
    if kind == "payload":
        kind_of_index = edge.PayloadSchemaType.Keyword
        shard.update(edge.UpdateOperation.create_field_index("label", kind_of_index))
    X = np.load(Path(folder) / f"X{n}.npy", mmap_mode="r")
    for start in range(0, n, 1000):
        rows = range(start, min(start + 1000, n))
        points = [point(kind, row, X[row].tolist()) for row in rows]
        shard.retrieve([each.id for each in points], with_payload=True, with_vector=True)
        shard.update(edge.UpdateOperation.upsert_points(points))
        if start % 25_000 == 0:
            shard.flush()
    return shard

def point(kind, row, vector):
    if kind == "ids":
        return edge.Point(row, {"raw": vector}, {})
    name, path = f"sku-{row:09}", f"a/{row}.jpg"
    payload = {"id": name, "path": path, "label": f"c{row % 7}", "price": row / 7}
    return edge.Point(str(uuid.uuid5(uuid.NAMESPACE_URL, name)), {"raw": vector}, payload)

folder, kind, n, _ = sys.argv[1:]
write(folder, kind, 1000).close()
print(watched(lambda: write(folder, kind, int(n))))
"""


def watched(work: Callable[[], object]) -> float:
    """Return by how many MB private memory rises while something is done."""
    before, peak, done = private_mb(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], private_mb())

    watching = threading.Thread(target=watch)
    watching.start()
    kept = work()
    done.set()
    watching.join()
    del kept
    return peak[0] - before


def private_mb() -> float:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Anonymous"))


def write(folder: Path, n: int) -> None:
    """Write a matrix and its metadata in every format."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    X = np.random.default_rng(0).normal(size=(n, DIM)).astype("f4")
    np.save(folder / f"X{n}.npy", X)
    rows = [
        {"id": f"sku-{i:09}", "path": f"a/{i}.jpg", "label": f"c{i % 7}", "price": i / 7}
        for i in range(n)
    ]
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, folder / f"rows{n}.parquet")
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(X.reshape(-1)), DIM)
    pq.write_table(table.append_column("vector", vectors), folder / f"V{n}.parquet")
    table.to_pandas().to_json(folder / f"rows{n}.jsonl", orient="records", lines=True)
    with (folder / f"rows{n}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs=2, default=(20_000, 200_000))
    few, many = parser.parse_args().rows
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    with tempfile.TemporaryDirectory() as name:
        for n in (1000, few, many):
            write(Path(name), n)
        print(f"{'MB above the start':24} {few:>9,} {many:>9,} {'more':>7} {'bytes a row':>12}")
        for kind in KINDS:
            for store in (":memory:", str(Path(name) / f"store-{kind}")):
                where = "no store" if store == ":memory:" else "embedded"
                show(f"{kind}, {where}", INGEST, (name, kind, store), few, many)
        for kind in ("ids", "payload"):
            show(f"the engine alone, {kind}", ENGINE, (name, kind, ""), few, many)


def show(title: str, code: str, arguments: tuple[str, str, str], few: int, many: int) -> None:
    """Print what a process takes for few rows and for many."""
    folder, kind, store = arguments
    grown = []
    for n in (few, many):
        command = [sys.executable, "-c", code, folder, kind, str(n), store]
        told = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
        grown.append(float(told.stdout))
    more = grown[1] - grown[0]
    per_row = more * 2**20 / (many - few)
    print(f"{title:24} {grown[0]:9.1f} {grown[1]:9.1f} {more:7.1f} {per_row:12.0f}")


if __name__ == "__main__":
    main()
