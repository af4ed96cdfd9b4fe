"""Claim: a backfill asks a server for work within a second of its start.

Whole processes at the tests' stand-in of a server, in a process of its own that notes when each
request comes: the time from a process's start to its first request, to the first one for points
(what a backfill with nothing to do reads first is the page of those that lack the vector), and to
its end; and CPU time. By gRPC and by REST, with nothing to do, and in an embedded collection. The
floor is a process that imports qdrant_client and does nothing else. Rounds are interleaved.

    python benchmarks/start.py
    python benchmarks/start.py --beside ../other-worktree
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from intramodal import ImageCollection, Projection, open_store
from intramodal.store.base import Store
from intramodal.store.manifest import VectorOrigin
from intramodal.types import declared_fingerprint

ROOT = Path(__file__).parent.parent
DIM, DIM_OUT, N_POINTS, MODEL, SHOP = 512, 256, 1000, "random", "shop"
COMMAND = "from intramodal.cli import cli; cli()"
FLOORS = ("pass", "import numpy", "import qdrant_client")
STAND_IN = """
import json, sys, time
from tests.faults.wire import WireServer
seen = []
with WireServer(speaks_grpc=sys.argv[1] == "gRPC") as server:
    server.before = lambda how, what: seen.append((time.monotonic(), how, what))
    print(server.url, flush=True)
    for _ in sys.stdin:
        print(json.dumps(seen), flush=True)
        seen.clear()
"""


class Taken(NamedTuple):
    """Seconds of one process; None for what it did not do."""

    first: float | None
    work: float | None
    end: float
    cpu: float


class StandIn:
    """A server in another process, and what it was asked."""

    def __init__(self, protocol: str) -> None:
        command = [sys.executable, "-c", STAND_IN, protocol]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._child = subprocess.Popen(command, cwd=ROOT, text=True, **pipes)
        self.url = self._line()

    def _line(self) -> str:
        return self._child.stdout.readline().strip() if self._child.stdout else ""

    def seen(self) -> list[tuple[float, str]]:
        """Return when each request came since the last call, and which one it was."""
        if self._child.stdin:
            self._child.stdin.write("\n")
            self._child.stdin.flush()
        return [(at, what) for at, _, what in json.loads(self._line())]

    def stop(self) -> None:
        """End it."""
        self._child.communicate()


def fill(store: Store) -> None:
    """Make a collection with the vector ``raw`` of every point."""
    X = np.random.default_rng(0).normal(size=(N_POINTS, DIM)).astype(np.float32)
    origin = VectorOrigin(MODEL, declared_fingerprint(MODEL))
    shop = ImageCollection.create(store, SHOP, {"raw": (DIM, origin)})
    shop.write(list(range(N_POINTS)), {"raw": X}, [{}] * N_POINTS)


@contextmanager
def places(folder: Path) -> Iterator[dict[str, StandIn | None]]:
    """Yield the places of a filled collection, by their names; the embedded one has no server."""
    servers = {protocol: StandIn(protocol) for protocol in ("gRPC", "REST")}
    for location in (str(folder / "store"), *(server.url for server in servers.values())):
        with open_store(location) as store:
            fill(store)
    try:
        yield {**servers, "embedded": None}
    finally:
        for server in servers.values():
            server.stop()


def timed(command: list[str], root: Path, server: StandIn | None = None) -> Taken:
    """Return the seconds of a process."""
    before = os.times()
    started = time.monotonic()
    # The folder stands before the path where code is given as -c.
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=root)
    end = time.monotonic() - started
    after = os.times()
    cpu = sum(after[2:4]) - sum(before[2:4])
    seen = server.seen() if server else []
    work = [at for at, what in seen if what == "Scroll" or what.endswith("/points/scroll")]
    firsts = (found[0] - started if found else None for found in ([at for at, _ in seen], work))
    return Taken(*firsts, end, cpu)


def measured(roots: dict[str, Path], n_rounds: int) -> dict[str, list[Taken]]:
    """Return the seconds of each kind of process, round by round."""
    taken: dict[str, list[Taken]] = {}
    with tempfile.TemporaryDirectory() as name, places(Path(name)) as where:
        # An installed package is compiled; a checkout may be where nothing may be written.
        os.environ["PYTHONPYCACHEPREFIX"] = str(Path(name) / "compiled")
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        file = str(Path(name) / "half.safetensors")
        matrix = np.linalg.qr(np.random.default_rng(1).normal(size=(DIM, DIM_OUT)))[0]
        Projection(matrix, "pca", MODEL, "3f9a").save(file)
        tail = ["--projection", file, "--runs", str(Path(name) / "runs.db"), "--json"]
        for n in range(-1, n_rounds):  # the first one fills, and writes bytecode
            for code in FLOORS:
                done = timed([sys.executable, "-c", code], ROOT)
                taken.setdefault(f"python -c {code!r}", []).extend([done] if n >= 0 else [])
            for place, server in where.items():
                store = server.url if server else str(Path(name) / "store")
                ours = [sys.executable, "-c", COMMAND, "backfill", SHOP, "--store", store, *tail]
                for version, root in roots.items():
                    done = timed(ours, root, server)
                    taken.setdefault(f"{place}{version}", []).extend([done] if n >= 0 else [])
    return taken


def tell(name: str, rounds: list[Taken]) -> None:
    """Print the medians of one kind of process, and the ranges."""
    cells = []
    for column in zip(*rounds, strict=True):
        some = [seconds for seconds in column if seconds is not None]
        shown = f"{median(some):.2f} ({min(some):.2f}-{max(some):.2f})" if some else "-"
        cells.append(f"{shown:>17}")
    print(f"{name:32} {' '.join(cells)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="default 7")
    parser.add_argument("--beside", type=Path, help="another version of the code, in turns")
    args = parser.parse_args()
    roots = {", " + args.beside.name: args.beside} if args.beside else {}
    taken = measured({**roots, "": ROOT}, args.rounds)
    heads = ("first request", "first points", "end", "CPU")
    print(f"{'seconds, median (range)':32} {' '.join(f'{head:>17}' for head in heads)}")
    for name, rounds in taken.items():
        tell(name, rounds)


if __name__ == "__main__":
    main()
