"""Claim: where a server is far away, a scan of all vectors is faster in slices of the ids.

The tests' stand-in of a server, in a process of its own, gives every answer a second time without
any work, and each some milliseconds later than it could: what a server and the way to it would
take. A scan of all vectors, as `compare`, the evaluations and `export` read them, beside a plain
scroll, over gRPC and REST, in turns. It is made to read slices from the third page on; how often
it would have done so by itself, which it decides by how long it waits for the second, is told.

    python benchmarks/scan.py --latency 0 5 20 50
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from unittest.mock import patch

import numpy as np

from intramodal.store.base import Store, VectorSpec
from intramodal.store.server import slices
from intramodal.store.server.client import connect_server
from intramodal.store.server.store import ServerStore

ROOT = Path(__file__).parent.parent
NAME, DIM, BATCH = "shop", 512, 1000
REPLAYING = """
import sys, time
from tests.faults.wire import WireServer, server

class Replaying(WireServer):
    known = {}

    def answer(self, method, target, headers, body):
        if "/points/scroll" not in target:
            return super().answer(method, target, headers, body)
        time.sleep(float(sys.argv[1]))
        if body not in self.known:
            status, content, more = super().answer(method, target, headers, body)
            more = {**more, "Content-Type": "application/json"}
            self.known[body] = status, server._encoded(content).decode(), more
        return self.known[body]

    def answer_call(self, name, call, request, context):
        if name != "Scroll":
            return super().answer_call(name, call, request, context)
        time.sleep(float(sys.argv[1]))
        asked = request.SerializeToString()
        if asked not in self.known:
            self.known[asked] = super().answer_call(name, call, request, context)
        return self.known[asked]

with Replaying(speaks_grpc=True, version="1.19.0") as served:
    print(served.url, flush=True)
    sys.stdin.read()
"""


@contextmanager
def replaying(latency_s: float) -> Iterator[str]:
    """Yield the address of a server that answers so much later than it could."""
    command = [sys.executable, "-c", REPLAYING, str(latency_s)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    environment = {**os.environ, "GRPC_VERBOSITY": "NONE"}
    with subprocess.Popen(command, cwd=ROOT, text=True, env=environment, **pipes) as child:
        yield child.stdout.readline().strip() if child.stdout else ""
        child.communicate()


def fill(store: Store, n: int) -> None:
    """Make a collection of random vectors."""
    store.create(NAME, {"raw": VectorSpec(DIM)})
    rng = np.random.default_rng(0)
    for start in range(0, n, BATCH):
        ids = list(range(start, min(start + BATCH, n)))
        X = rng.normal(size=(len(ids), DIM)).astype(np.float32)
        store.upsert(NAME, ids, {"raw": X}, [{}] * len(ids))


def seconds(read: Callable[[], object]) -> float:
    """Return the seconds of reading all."""
    started = time.perf_counter()
    read()
    return time.perf_counter() - started


def compared(store: ServerStore, n: int, n_rounds: int) -> str:
    """Return the times of both scans, and their ratio."""
    wished: list[bool] = []
    is_waiting = slices._Watch.is_waiting

    def forced(watch: slices._Watch) -> bool:
        is_wished = is_waiting(watch)
        if watch._n_pages > 1:
            wished.append(is_wished)
        return watch._n_pages > 1

    ways = {"scroll": store.scroll, "scan": store.scan}
    taken: dict[str, list[float]] = {way: [] for way in ways}
    with patch.object(slices._Watch, "is_waiting", forced):
        for _ in range(n_rounds + 1):
            for way, read in ways.items():
                taken[way].append(seconds(lambda read=read: list(read(NAME, vectors=["raw"]))))
    plain, ours = (taken[way][1:] for way in ways)  # the first one is answered slowly
    each = ", ".join(f"{a / b:.2f}" for a, b in zip(plain, ours, strict=True))
    return (
        f"scroll {median(plain):.2f} s, scan {median(ours):.2f} s ({n / median(ours):,.0f} "
        f"points/s): {median(plain) / median(ours):.2f} times its speed (rounds: {each}); "
        f"by itself in {sum(wished[1:])} of them"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=20_000, help="default 20,000")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--latency", type=float, nargs="+", default=[0.0, 20.0], help="ms")
    args = parser.parse_args()
    print(f"{args.points:,} x {DIM}, pages of {BATCH:,}, {args.rounds} rounds")
    for latency_ms in args.latency:
        for protocol in ("gRPC", "REST"):
            with (
                replaying(latency_ms / 1000) as url,
                ServerStore(connect_server(url, prefer_grpc=protocol == "gRPC")) as store,
            ):
                fill(store, args.points)
                said = compared(store, args.points, args.rounds)
                print(f"{latency_ms:3.0f} ms, {protocol}: {said}", flush=True)


if __name__ == "__main__":
    main()
