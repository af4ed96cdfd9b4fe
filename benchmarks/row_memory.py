"""Claim: ready vectors are ingested in memory that hardly depends on how many there are.

Each ingest runs in a process of its own, with the allocator that the commands choose; printed is
how far its private memory (Linux: anonymous, what cannot be dropped) rises above that before the
ingest: without a store (reading, checking and pacing alone), into the tests' stand-in of a server
over gRPC and REST, and into an embedded store. "The engine alone" are the same points written by
the same number through qdrant_edge, with nothing of ours; "ours" is what is not the engine's.

Measured, 20,000 and 200,000 rows of 8 numbers, MB that the larger ingest takes more:

             reading    server, gRPC    server, REST    embedded    the engine alone
    npy      0.0-0.2    0.3-0.4         0.1-0.2         16-17       16.1
    csv      0.6-1.1    1.0             0.4             22-25       24.6
    jsonl    0.4-0.9    0.9             0.4             25          24.6
    parquet  8.0-8.4    5.5-7.8         6.7-7.2         33-35       24.6
    vectors  8.2-8.8    6.9-8.1         8.9-9.2         35-37       24.6

Parquet: of every column Arrow holds a page and a dictionary, up to 1 MB each as stored and 3.5 MB
once decoded, and a file of 20,000 such rows is smaller than that; a million rows take no more than
200,000. The engine holds ids and indexes of payload in memory, whatever it is configured to.

    python benchmarks/row_memory.py
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import partial
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

SERVER = """
import sys
from tests.faults.wire import WireServer

with WireServer(speaks_grpc=sys.argv[1] == "gRPC") as served:
    print(served.url, flush=True)
    sys.stdin.read()
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
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    args = parser.parse_args()
    few, many = args.rows
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    print(f"{args.rounds} rounds, medians; of what {many:,} rows take more, least and most, too")
    print(f"{'MB above the start':24} {few:>9,} {many:>9,} {'more':>7} {'':13} {'ours':>7}")
    with tempfile.TemporaryDirectory() as name:
        for n in (1000, few, many):
            write(Path(name), n)
        alone = {
            kind: show(f"the engine alone, {kind}", partial(engine, name, kind), args)
            for kind in ("ids", "payload")
        }
        for kind in args.kinds:
            show(f"{kind}, reading", partial(ingest, name, kind, ":memory:"), args)
            for protocol in ("gRPC", "REST"):
                into = partial(ingest_into_server, name, kind, protocol)
                show(f"{kind}, {protocol} server", into, args)
            into = partial(ingest, name, kind, f"{name}/store-{kind}")
            engines = alone["ids" if kind == "npy" else "payload"]
            show(f"{kind}, embedded", into, args, less=engines)


def show(
    title: str, grown_mb: Callable[[int], float], args: argparse.Namespace, less: float = 0.0
) -> float:
    """Print what a process takes for few rows and for many; returns how much more that is."""
    rounds = np.array([[grown_mb(n) for n in args.rows] for _ in range(args.rounds)])
    more = rounds[:, 1] - rounds[:, 0]
    few, many = np.median(rounds, axis=0)
    middle = float(np.median(more))
    spread = f"({more.min():.1f} to {more.max():.1f})"
    print(
        f"{title:24} {few:9.1f} {many:9.1f} {middle:7.1f} {spread:13} {middle - less:7.1f}",
        flush=True,
    )
    return middle


def engine(folder: str, kind: str, n: int) -> float:
    """Return by how many MB the engine's memory rises where it is used by itself."""
    return child(ENGINE, folder, kind, n, "")


def ingest(folder: str, kind: str, store: str, n: int) -> float:
    """Return by how many MB the memory of an ingest rises, into a store of its own."""
    shutil.rmtree(store, ignore_errors=True)
    return child(INGEST, folder, kind, n, store)


def ingest_into_server(folder: str, kind: str, protocol: str, n: int) -> float:
    """Return the same into the tests' stand-in of a server, which is a process of its own."""
    command, pipe = [sys.executable, "-c", SERVER, protocol], subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, text=True, stdin=pipe, stdout=pipe) as served:
        url = served.stdout.readline().strip() if served.stdout else ""
        grown = child(INGEST, folder, kind, n, url)
        served.communicate()
    return grown


def child(code: str, folder: str, kind: str, n: int, store: str) -> float:
    """Return what a process of its own prints."""
    command = [sys.executable, "-c", code, folder, kind, str(n), store]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return float(done.stdout)


if __name__ == "__main__":
    main()
