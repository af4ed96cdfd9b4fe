"""Claim: ready vectors are ingested in memory that hardly depends on how many there are.

Each ingest runs in a process of its own, with the allocator that the commands choose; printed is
how far its private memory (Linux: anonymous, what cannot be dropped) rises above that before the
ingest, without a store (reading, checking and pacing alone) and into an embedded one, whose
engine keeps ids and the index of labels in memory.

Measured for the whole command, 20,000 and 200,000 rows of 8 numbers, private memory at its peak:
into a server (a stand-in in another process) 0.1 MB more for a matrix alone, 0.4 MB with CSV,
0.3 MB with JSONL, 15 to 18 MB with Parquet, whose pages, dictionaries and columns of a row group
Arrow holds decoded: a file of 20,000 such rows is smaller than one page. Into an embedded store it
is 3 MB for a matrix alone, and 29 MB with CSV, of which opening the store takes 21 MB without
reading a point (4.7 MB at 20,000 points with text ids and a label, 25.7 MB at 200,000).

    python benchmarks/row_memory.py
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

DIM, KINDS = 8, ("npy", "csv", "jsonl", "parquet")

INGEST = """
import sys, threading
from pathlib import Path
import intramodal.ingest.vectors.load as load
from intramodal.ingest.pipeline import ingest_vectors, vectors_collection
from intramodal.ingest.reader import Tally
from intramodal.ingest.vectors.ready import open_ready
from intramodal.store.manifest import VectorOrigin
from intramodal.store.open import open_store

def private_mb():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Anonymous"))

def ingest(folder, kind, n, where):
    table = None if kind == "npy" else Path(folder) / f"rows{n}.{kind}"
    ready = open_ready(Path(folder) / f"X{n}.npy", dataset="d", table=table)
    made = load.vectors_of(ready, VectorOrigin("m", "declared:m"), "raw", None)
    with open_store(where) as store:
        ingest_vectors(ready, vectors_collection(store, f"c{n}", made))

folder, kind, n, where = sys.argv[1:]
if where == ":memory:":
    load.bring_up = lambda collection, batch, *more: Tally(written=len(batch.points))
ingest(folder, kind, 1000, where)  # what is imported and set up once
before, peak, done = private_mb(), [0.0], threading.Event()

def watch():
    while not done.wait(0.02):
        peak[0] = max(peak[0], private_mb())

watching = threading.Thread(target=watch)
watching.start()
ingest(folder, kind, n, where)
done.set()
watching.join()
print(peak[0] - before)
"""


def write(folder: Path, n: int) -> None:
    """Write a matrix and its metadata in every format."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    np.save(folder / f"X{n}.npy", np.random.default_rng(0).normal(size=(n, DIM)).astype("f4"))
    rows = [
        {"id": f"sku-{i:09}", "path": f"a/{i}.jpg", "label": f"c{i % 7}", "price": i / 7}
        for i in range(n)
    ]
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, folder / f"rows{n}.parquet")
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
                grown = []
                for n in (few, many):
                    command = [sys.executable, "-c", INGEST, name, kind, str(n), store]
                    told = subprocess.run(command, check=True, capture_output=True, text=True)
                    grown.append(float(told.stdout))
                more = grown[1] - grown[0]
                where = "no store" if store == ":memory:" else "embedded"
                per_row = more * 2**20 / (many - few)
                cells = f"{grown[0]:9.1f} {grown[1]:9.1f} {more:7.1f} {per_row:12.0f}"
                print(f"{kind + ', ' + where:24} {cells}")


if __name__ == "__main__":
    main()
