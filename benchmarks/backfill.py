"""Points per second of ingesting ready vectors and of a backfill, against the bare engine.

Random float32 vectors, 512 dimensions and 256 once projected, in the embedded store; batches of
1,000 points, three payload columns. The engine alone gets the same batches in the same run:

* ingest: `upsert_points` of ready ids, payloads and rows of an array;
* backfill: scroll, the conversion of its answer to one float32 array, and `update_vectors` with
  ready rows.

"plain" uses the engine as its documentation does, handing it arrays and `numpy.array` its lists;
"tuned" passes buffers both ways, the fastest form found. What is measured of ours is everything:
reading a memory-mapped .npy and its CSV, ids and payload, look-up, projection, checks, counts.
Runs alternate; medians and ratios are printed, by the clock and by CPU time: on a machine with
other work, the second is the steadier one. The rebuild of the index, which both need after a
backfill, is left out and reported apart. How much anonymous memory grows is measured in processes
of their own, beside that of the engine alone: most of it are the engine's own indexes of payload.

With ``--server URL``, or ``--server stand-in`` for the tests' stand-in of one, the whole command
is measured instead, beside a plain loop of the client: scroll, product, `update_vectors`, one
request after the other; both in processes of their own, from their start to their end, imports
included, in the same run. Then the command once more, with nothing to do: what is spent around
the writing.

With ``--maps`` the backfills of three maps are measured instead, at the same collection: of texts
(256 numbers), of 100 classes (64 of texts and 64 of labels), and of posterior codes of 100 classes
(100 chances and 256 of texts). How long the engine alone takes depends on the numbers it writes,
so each stands beside it too.

Without either, first comes what we spell by hand though a library could: the gRPC message of a
batch of whole points, and their UUIDv5. tests/unit hold both to the library's own result.
"""

from __future__ import annotations

import argparse
import csv
import os
import struct
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import qdrant_edge as edge
from qdrant_client import QdrantClient, grpc, models
from qdrant_client.qdrant_remote import QdrantRemote

from intramodal import ImageCollection, Projection, backfill, open_store
from intramodal.fit_rows import FitRows
from intramodal.ingest.pipeline import ingest_vectors
from intramodal.ingest.vectors.load import vectors_of
from intramodal.ingest.vectors.matrices import Matrix
from intramodal.ingest.vectors.ready import ReadyVectors, open_ready
from intramodal.projection.fit import LabelledRows, fit_label_map, fit_posterior
from intramodal.projection.stored_map import StoredMap
from intramodal.store.manifest import VectorOrigin
from intramodal.store.server.convert import point_vectors
from intramodal.store.server.messages import upsert_request
from intramodal.types import Floats, declared_fingerprint, point_id

DIM, DIM_OUT, BATCH = 512, 256, 1000
N_CLASSES = 100
MODEL, DATASET = "random", "shop"
WARM_POINTS = 20_000
SAMPLE_EVERY = 5
N_SPELLINGS = 7

Seconds = tuple[float, float]
"""By the clock, and of CPU time."""

Rows = Callable[[Floats], Iterator[Any]]
"""From an array to what the engine takes as the vectors of points."""


def write_files(folder: Path, n: int) -> None:
    """Write vectors and metadata."""
    rng = np.random.default_rng(0)
    X = np.lib.format.open_memmap(folder / "X.npy", "w+", np.float32, (n, DIM))
    for start in range(0, n, BATCH):
        X[start : start + BATCH] = rng.normal(size=X[start : start + BATCH].shape)
    X.flush()
    with (folder / "meta.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["sku", "shop", "price"])
        table.writerows([f"sku-{i:07}", f"shop {i % 200}", i % 1000] for i in range(n))


def opened(folder: Path) -> ReadyVectors:
    """Open the files; reads all ids once."""
    table = folder / "meta.csv"
    return open_ready(folder / "X.npy", dataset=DATASET, table=table, id_column="sku")


def half() -> Projection:
    """Return a projection to half the dimensions."""
    matrix = np.linalg.qr(np.random.default_rng(1).normal(size=(DIM, DIM_OUT)))[0]
    return Projection(matrix, "pca", MODEL, "3f9a")


class Stopwatch:
    """Seconds while it runs, by the clock and of all this process's threads."""

    def __init__(self) -> None:
        self.seconds: Seconds = (0.0, 0.0)

    def __enter__(self) -> Stopwatch:
        """Start."""
        self._started = (time.perf_counter(), time.process_time())
        return self

    def __exit__(self, *raised: object) -> None:
        """Stop; what was measured before counts as well."""
        now = (time.perf_counter(), time.process_time())
        parts = zip(self.seconds, now, self._started, strict=True)
        clock, cpu = (had + end - start for had, end, start in parts)
        self.seconds = (clock, cpu)


# The bare engine


def plain_rows(X: Floats) -> Iterator[Any]:
    """Return the rows as arrays."""
    return iter(X)


def tuned_rows(X: Floats) -> Iterator[Any]:
    """Return the rows as buffers, whose items Python hands over faster than an array's."""
    return map(memoryview, X)


def plain_array(records: list[Any]) -> Floats:
    """Return the vectors of an answer as one array."""
    return np.array([record.vector["raw"] for record in records], dtype=np.float32)


def tuned_array(records: list[Any]) -> Floats:
    """Return the same, each row packed as it comes."""
    row = struct.Struct(f"{DIM}f")
    packed = bytearray(row.size * len(records))
    for i, record in enumerate(records):
        row.pack_into(packed, i * row.size, *record.vector["raw"])
    return np.frombuffer(packed, dtype=np.float32).reshape(len(records), DIM)


FORMS = {"plain": (plain_rows, plain_array), "tuned": (tuned_rows, tuned_array)}


def new_shard(folder: Path) -> edge.EdgeShard:
    """Return an empty shard with the vector ``raw``."""
    raw = edge.EdgeVectorParams(size=DIM, distance=edge.Distance.Cosine)
    return edge.EdgeShard.create(str(folder), edge.EdgeConfig(vectors={"raw": raw}))


def bare_upsert(
    shard: edge.EdgeShard,
    folder: Path,
    n: int,
    rows_of: Rows,
    note: Callable[[int], None] = lambda n_points: None,
) -> Seconds:
    """Return the seconds of writing all points, whose ids and payloads are ready."""
    X = np.load(folder / "X.npy", mmap_mode="r")
    watch = Stopwatch()
    for start in range(0, n, BATCH):
        block = np.array(X[start : start + BATCH])
        note(len(block))
        names = [f"sku-{i:07}" for i in range(start, start + len(block))]
        ids = [point_id(DATASET, name) for name in names]
        payloads = [
            {"sku": name, "shop": f"shop {i % 200}", "price": str(i % 1000)}
            for i, name in enumerate(names, start)
        ]
        with watch:
            points = [
                edge.Point(i, {"raw": row}, payload)
                for i, row, payload in zip(ids, rows_of(block), payloads, strict=True)
            ]
            shard.update(edge.UpdateOperation.upsert_points(points))
    return watch.seconds


def bare_backfill(
    shard: edge.EdgeShard,
    rows_of: Rows,
    array_of: Callable[[list[Any]], Floats],
    *,
    name: str = "pca",
    dim_out: int = DIM_OUT,
    distance: str = "Cosine",
) -> None:
    """Read all vectors as arrays and write ready ones."""
    Z = np.random.default_rng(2).normal(size=(BATCH, dim_out)).astype(np.float32)
    by = getattr(edge.Distance, distance)
    shard.update(edge.UpdateOperation.create_dense_vector(name, dim_out, by, None, None))
    offset = None
    while True:
        request = edge.ScrollRequest(offset=offset, limit=BATCH, with_vector=["raw"])
        records, offset = shard.scroll(request)
        array_of(records)
        updates = [
            edge.PointVectors(record.id, {name: row})
            for record, row in zip(records, rows_of(Z), strict=False)
        ]
        shard.update(edge.UpdateOperation.update_vectors(updates))
        if offset is None:
            return


# Ours


@contextmanager
def new_collection(folder: Path, ready: ReadyVectors) -> Iterator[ImageCollection]:
    """Yield an empty collection in a new store."""
    origin = VectorOrigin(MODEL, declared_fingerprint(MODEL))
    with tempfile.TemporaryDirectory(dir=folder) as store, open_store(store) as place:
        yield ImageCollection.create(place, "shop", vectors_of(ready, origin, "raw", None))


def our_ingest(ready: ReadyVectors, collection: ImageCollection) -> None:
    """Ingest, and check that all is there."""
    summary = ingest_vectors(ready, collection, batch_size=BATCH)
    if summary.written != ready.matrix.n_rows:
        raise SystemExit(f"the ingest wrote {summary.written} rows of {ready.matrix.n_rows}")


def our_backfill(collection: ImageCollection, projection: StoredMap) -> None:
    """Backfill, and check that all is there."""
    summary = backfill(collection, projection, batch_size=BATCH)
    if summary.projected != collection.count():
        raise SystemExit(f"the backfill projected {summary.projected} of {collection.count()}")


def timed(call: Callable[[], object]) -> Seconds:
    """Return the seconds of a call."""
    with Stopwatch() as watch:
        call()
    return watch.seconds


def one_round(folder: Path, n: int) -> dict[str, Seconds]:
    """Return the seconds of every job, each in a new store."""
    seconds = {}
    for form, (rows_of, array_of) in FORMS.items():
        with tempfile.TemporaryDirectory(dir=folder) as place:
            shard = new_shard(Path(place))
            seconds[f"ingest {form}"] = bare_upsert(shard, folder, n, rows_of)
            seconds[f"backfill {form}"] = timed(partial(bare_backfill, shard, rows_of, array_of))
            shard.close()
    watch = Stopwatch()
    with watch:
        ready = opened(folder)
    with new_collection(folder, ready) as collection:
        with watch:
            our_ingest(ready, collection)
        seconds["ingest ours"] = watch.seconds
        projection = half()
        seconds["backfill ours"] = timed(lambda: our_backfill(collection, projection))
    return seconds


def report(n: int, rounds: list[dict[str, Seconds]]) -> None:
    """Print rates and ratios of both jobs."""
    for job in ("ingest", "backfill"):
        for which, unit in enumerate(("clock", "CPU")):
            taken = {name: [one[name][which] for one in rounds] for name in rounds[0]}
            middle = median(taken[f"{job} ours"])
            print(f"{job:8} {unit:5}: ours {n / middle:8,.0f} points/s")
            for form in FORMS:
                tell_ratio(n, form, taken[f"{job} {form}"], taken[f"{job} ours"])


def tell_ratio(n: int, form: str, bare: list[float], ours: list[float]) -> None:
    """Print the bare rate and what share of it ours is, and that of every round."""
    each = ", ".join(f"{b / o:.0%}" for b, o in zip(bare, ours, strict=True))
    print(
        f"  {form} engine {n / median(bare):8,.0f} points/s, "
        f"ours is {median(bare) / median(ours):6.1%} of it (rounds: {each})"
    )


# Maps from labels


def maps() -> dict[str, StoredMap]:
    """Return a map of each kind, by what it is called."""
    rng = np.random.default_rng(3)
    y = np.repeat(np.arange(N_CLASSES), 50)
    X = rng.normal(size=(len(y), DIM)) + rng.normal(size=(N_CLASSES, DIM))[y]
    text = half()
    made_by = (text.encoder, text.encoder_fingerprint)
    names, rule = [f"class {code}" for code in y], FitRows(where=("shop", ("shop 0",)))
    rows = LabelledRows(X.astype(np.float32), names, "price", rule, made_by)
    posterior = fit_posterior(rows, text=text)
    return {"texts": text, "labels": fit_label_map(rows, text=text), "posterior": posterior}


def round_of_maps(folder: Path, n: int, order: Sequence[str]) -> dict[str, Seconds]:
    """Return the seconds of a backfill of each map, in this order, by us and by the engine."""
    seconds, made = {}, maps()
    ready = opened(folder)
    with new_collection(folder, ready) as collection:
        our_ingest(ready, collection)
        for name in order:
            seconds[f"{name} ours"] = timed(partial(our_backfill, collection, made[name]))
    with tempfile.TemporaryDirectory(dir=folder) as place:
        shard = new_shard(Path(place))
        bare_upsert(shard, folder, n, tuned_rows)
        for name in order:
            one = made[name]
            how: Any = {"name": name, "dim_out": one.dim_out, "distance": one.distance}
            write = partial(bare_backfill, shard, tuned_rows, tuned_array, **how)
            seconds[f"{name} engine"] = timed(write)
        shard.close()
    return seconds


def measure_maps(n: int, n_rounds: int) -> None:
    """Print the rate of each map's backfill beside that of texts, and beside the engine's."""
    names = list(maps())
    with tempfile.TemporaryDirectory() as place:
        write_files(Path(place), n)
        rounds = [
            round_of_maps(Path(place), n, np.roll(names, i).tolist()) for i in range(n_rounds)
        ]
    print(f"{n:,} x {DIM}, batches of {BATCH:,}, {n_rounds} rounds")
    for which, unit in enumerate(("clock", "CPU")):
        for name in names:
            ours = [one[f"{name} ours"][which] for one in rounds]
            texts = [one["texts ours"][which] for one in rounds]
            engine = [one[f"{name} engine"][which] for one in rounds]
            each = ", ".join(f"{t / o:.2f}" for t, o in zip(texts, ours, strict=True))
            print(
                f"{unit:5}: {name:9} {n / median(ours):8,.0f} points/s, "
                f"{median(texts) / median(ours):.2f} times texts' (rounds: {each}), "
                f"{median(engine) / median(ours):.0%} of the engine's"
            )


# What is spelled by hand


def sent(request: Any, timeout: int | None = None) -> grpc.PointsOperationResponse:
    """Serialise a request, which is all that is done with it, and answer it."""
    request.SerializeToString()
    done = grpc.UpdateResult(operation_id=1, status=grpc.UpdateStatus.Completed)
    return grpc.PointsOperationResponse(result=done)


def ways_to_send() -> tuple[Callable[[], object], Callable[[], object]]:
    """Return the client's way to send a batch of points over gRPC, and ours."""
    client = QdrantClient(prefer_grpc=True, check_compatibility=False)
    answering = patch.object(QdrantRemote, "grpc_points", SimpleNamespace(Upsert=sent))
    ids = [point_id(DATASET, f"sku-{i:07}") for i in range(BATCH)]
    vectors = {"raw": np.random.default_rng(3).normal(size=(BATCH, DIM)).astype(np.float32)}
    payloads = [{"sku": f"sku-{i:07}", "price": str(i)} for i in range(BATCH)]

    def theirs() -> None:
        batch = models.Batch(ids=ids, vectors=point_vectors(vectors), payloads=payloads)
        with answering:
            client.upsert("shop", batch, wait=True)

    return theirs, lambda: sent(upsert_request("shop", ids, vectors, payloads))


def ways_to_name() -> tuple[Callable[[], object], Callable[[], object]]:
    """Return the standard library's way to make the ids of a batch, and ours."""
    keys = [f"cats/{i:07}.jpg" for i in range(BATCH)]
    return (
        lambda: [str(uuid.uuid5(uuid.NAMESPACE_URL, f"{DATASET}/{key}")) for key in keys],
        lambda: [point_id(DATASET, key) for key in keys],
    )


def tell_spellings(n_rounds: int) -> None:
    """Print the CPU time of a batch by the library and by ours, and their ratio."""
    for job, (theirs, ours) in {"message": ways_to_send(), "ids": ways_to_name()}.items():
        theirs(), ours()  # warm up
        rounds = [(timed(theirs)[1], timed(ours)[1]) for _ in range(n_rounds)]
        each = ", ".join(f"{library / own:.1f}" for library, own in rounds)
        library, own = (median(column) for column in zip(*rounds, strict=True))
        print(
            f"{job:8} of {BATCH:,} points: the library's {library * 1e3:.2f} ms, ours "
            f"{own * 1e3:.2f} ms, {library / own:.1f} times faster (rounds: {each})"
        )


# Memory


def anonymous_mb() -> float:
    """Return this process's anonymous memory."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    (kilobytes,) = [line.split()[1] for line in lines if line.startswith("Anonymous:")]
    return int(kilobytes) / 1024


class Samples:
    """Anonymous memory by the number of points done."""

    def __init__(self) -> None:
        self.taken: list[tuple[int, float]] = []
        self._n_calls = self._n_points = 0

    def note(self, n_points: int) -> None:
        """Note what there is before the next `n_points`, now and then."""
        if self._n_calls % SAMPLE_EVERY == 0:
            self.taken.append((self._n_points, anonymous_mb()))
        self._n_calls += 1
        self._n_points += n_points

    def tell(self, job: str) -> None:
        """Print how much memory grows once it is warm."""
        self.taken.append((self._n_points, anonymous_mb()))
        warm_points = min(WARM_POINTS, self._n_points // 5)
        warm = [mb for n, mb in self.taken if n >= warm_points]
        print(
            f"{job:8}: anonymous memory {warm[0]:.1f} MB at point {warm_points:,}, "
            f"{warm[-1]:.1f} MB at point {self._n_points:,}: growth {warm[-1] - warm[0]:+.1f} MB, "
            f"at most {max(warm) - warm[0]:+.1f} MB on the way"
        )


class WatchedMatrix(Matrix):
    """Another matrix, whose reader's memory is noted."""

    def __init__(self, watched: Matrix, samples: Samples) -> None:
        super().__init__(watched.path, watched.n_rows, watched.dim)
        self._watched = watched
        self._samples = samples

    def blocks(self, size: int) -> Iterator[Floats]:
        """Yield all rows."""
        for X in self._watched.blocks(size):
            self._samples.note(len(X))
            yield X


class WatchedProjection(Projection):
    """A projection whose caller's memory is noted."""

    samples: Samples

    def apply(self, X: Any) -> Floats:
        """Project."""
        self.samples.note(len(X))
        return super().apply(X)


def bare_memory(folder: Path, n: int) -> None:
    """Print how memory grows while the engine alone takes all points."""
    samples = Samples()
    with tempfile.TemporaryDirectory(dir=folder) as place:
        shard = new_shard(Path(place))
        bare_upsert(shard, folder, n, tuned_rows, samples.note)
        samples.tell("engine")
        shard.close()


def our_memory(folder: Path, *, with_index: bool) -> None:
    """Print how memory grows, and what the rebuild of the index takes."""
    ready = opened(folder)
    samples = Samples()
    ready.matrix = WatchedMatrix(ready.matrix, samples)
    with new_collection(folder, ready) as collection:
        our_ingest(ready, collection)
        samples.tell("ingest")
        plain = half()
        watched = WatchedProjection(plain.matrix, "pca", MODEL, "3f9a")
        type(watched).samples = samples = Samples()
        our_backfill(collection, watched)
        samples.tell("backfill")
        if with_index:
            seconds, _ = timed(lambda: collection.store.optimize("shop"))
            print(f"index   : {seconds:.1f} s to build that of both vectors, in no figure above")


# The whole command, at a server

ROOT = Path(__file__).parent.parent
SHOP = "intramodal-benchmark"
STAND_IN = """
import sys
from tests.faults.wire import WireServer
with WireServer(speaks_grpc=True) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""
COMMAND = "from intramodal.cli import cli; cli()"


@contextmanager
def at_server(given: str) -> Iterator[str]:
    """Yield the address of a running server, or of a stand-in in another process."""
    if given != "stand-in":
        yield given
        return
    child = subprocess.Popen(
        [sys.executable, "-c", STAND_IN],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        url = child.stdout.readline().strip() if child.stdout else ""
        yield url
        child.communicate()  # closes its input, at the end of which it stops


def fill_server(url: str, n: int) -> None:
    """Make the collection anew, with the vector ``raw`` of every point."""
    rng = np.random.default_rng(0)
    origin = VectorOrigin(MODEL, declared_fingerprint(MODEL))
    with open_store(url) as store:
        if SHOP in store.collections():
            store.drop(SHOP)
        shop = ImageCollection.create(store, SHOP, {"raw": (DIM, origin)})
        for start in range(0, n, BATCH):
            ids = list(range(start, min(start + BATCH, n)))
            X = rng.normal(size=(len(ids), DIM)).astype(np.float32)
            shop.write(ids, {"raw": X}, [{"label": f"l{i % 5}"} for i in ids])


def client_loop(url: str, projection: str) -> None:
    """Backfill as one would by hand, over gRPC."""
    matrix = Projection.load(Path(projection)).matrix.astype(np.float32)
    port = int(url.rpartition(":")[2])
    client = QdrantClient(url=url, prefer_grpc=True, grpc_port=port + 1, timeout=60)
    dense = models.DenseVectorConfig(size=DIM_OUT, distance=models.Distance.COSINE)
    client.create_vector_name(SHOP, "pca", models.DenseVectorNameConfig(dense=dense), wait=True)
    offset = None
    while True:
        records, offset = client.scroll(
            SHOP, limit=BATCH, offset=offset, with_payload=False, with_vectors=["raw"]
        )
        Z = plain_array(records) @ matrix
        rows = zip(records, Z.tolist(), strict=True)
        points = [models.PointVectors(id=r.id, vector={"pca": row}) for r, row in rows]
        client.update_vectors(SHOP, points, wait=True)
        if offset is None:
            return


def of_process(command: Sequence[str]) -> Seconds:
    """Return the seconds of a process from its start to its end, and of its CPU time."""
    before = os.times()
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    clock = time.perf_counter() - started
    after = os.times()
    return clock, sum(after[2:4]) - sum(before[2:4])


def measure_command(given: str, n: int, n_rounds: int) -> None:
    """Print what the command takes beside the loop, and with nothing to do."""
    with at_server(given) as url, tempfile.TemporaryDirectory() as name:
        projection = str(Path(name) / "half.safetensors")
        half().save(projection)
        files = ("--projection", projection, "--runs", str(Path(name) / "runs.db"))
        ours = [sys.executable, "-c", COMMAND, "backfill", SHOP, "--store", url, *files, "--json"]
        loop = [sys.executable, __file__, "--loop", url, "--folder", projection]
        jobs = {"loop": loop, "ours": [*ours, "--no-wait"], "repeat": [*ours, "--no-wait"]}
        taken: dict[str, list[Seconds]] = {job: [] for job in jobs}
        os.environ["PYTHONPATH"] = str(ROOT)
        for _ in range(n_rounds):
            for job, command in jobs.items():
                if job != "repeat":
                    fill_server(url, n)
                taken[job].append(of_process(command))
        with open_store(url) as store:
            store.drop(SHOP)
    imports = [of_process([sys.executable, "-c", "import qdrant_client"])[1] for _ in range(3)]
    tell_command(n, taken, median(imports))


def tell_command(n: int, taken: dict[str, list[Seconds]], import_s: float) -> None:
    """Print the rates of the whole processes and their ratio."""
    print(f"{n:,} x {DIM} > {DIM_OUT} at a server over gRPC, whole processes")
    for which, unit in enumerate(("clock", "CPU")):
        loop, ours, repeat = ([one[which] for one in taken[job]] for job in taken)
        each = ", ".join(f"{a / b:.2f}" for a, b in zip(loop, ours, strict=True))
        print(
            f"{unit:5}: the command {median(ours):6.2f} s, a plain loop {median(loop):6.2f} s: "
            f"{median(loop) / median(ours):.2f} times its speed (rounds: {each}); "
            f"with nothing to do {median(repeat):.2f} s"
        )
    print(f"of which importing qdrant_client alone takes {import_s:.2f} s of CPU time")


def measure(n: int, n_rounds: int) -> None:
    """Print everything; memory from processes of their own, whose allocators are fresh."""
    tell_spellings(N_SPELLINGS)
    print(f"{n:,} x {DIM} > {DIM_OUT}, batches of {BATCH:,}, {n_rounds} rounds", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder, n)
        if n_rounds:
            report(n, [one_round(folder, n) for _ in range(n_rounds)])
        sys.stdout.flush()
        for which in ("engine", "ours"):
            job = ("--memory-of", which, "--folder", name, "--points", str(n))
            command = [sys.executable, __file__, *job, *sys.argv[1:]]
            subprocess.run(command, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=100_000, help="default 100,000")
    parser.add_argument("--rounds", type=int, default=3, help="default 3; 0 for memory alone")
    parser.add_argument("--no-index", action="store_true", help="do not build the index")
    parser.add_argument("--server", metavar="URL", help="measure the command at one, or stand-in")
    parser.add_argument("--maps", action="store_true", help="measure maps from labels")
    parser.add_argument("--loop", help=argparse.SUPPRESS)
    parser.add_argument("--memory-of", choices=("engine", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.loop:
        client_loop(args.loop, str(args.folder))
    elif args.maps:
        measure_maps(args.points, args.rounds)
    elif args.server:
        measure_command(args.server, args.points, args.rounds)
    elif args.memory_of == "engine":
        bare_memory(args.folder, args.points)
    elif args.memory_of == "ours":
        our_memory(args.folder, with_index=not args.no_index)
    else:
        measure(args.points, args.rounds)


if __name__ == "__main__":
    main()
