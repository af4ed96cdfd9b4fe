"""Two processes ingest into two collections of one store, with one runs database; one is killed.

Run as a module, this file is one of the processes: it stops in the middle, tells so on stdout,
and goes on when a line comes in.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal import ImageCollection, open_store
from intramodal.ingest.pipeline import images_collection, ingest_images
from intramodal.ingest.sources.formats import open_source
from intramodal.runs.ledger import RunLedger
from tests.children import guarded
from tests.cli.kit import run
from tests.databases import VARIABLE, postgres_schema
from tests.plain_encoder import PlainEncoder, write_pictures

N, BATCH, HELD_AT = 120, 8, 5
DEADLINE_S = 120.0  # two processes that import and work on a busy machine

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the heartbeat decides")


class HeldEncoder(PlainEncoder):
    def encode_pixels(self, pixels: np.ndarray) -> np.ndarray:
        if len(self.batches) == HELD_AT:
            sys.stdout.write("held\n")
            sys.stdout.flush()
            sys.stdin.readline()
        return super().encode_pixels(pixels)


def ingest_all(encoder: PlainEncoder, collection: str, source: str, store: str, runs: str) -> Any:
    opened = open_source(source, label_from="parent")
    with (
        RunLedger.open(runs) as ledger,
        open_store(store) as place,
        ledger.run("ingest", parameters={"collection": collection}) as run,
    ):
        found = images_collection(place, collection, encoder=encoder)
        done = ingest_images(opened, found, encoder=encoder, batch_size=BATCH, run=run)
    return {**done.to_dict(), "run_id": run.id}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder, N)
    return str(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def runs_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield str(tmp_path / "runs.db")
        return
    if not os.environ.get(VARIABLE):
        pytest.skip(f"{VARIABLE} is not set")
    with postgres_schema() as url:
        yield url


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.faults.test_two_ingests", *arguments]
    root = Path(__file__).parents[2]
    pipe = subprocess.PIPE
    with guarded(command, DEADLINE_S, cwd=root, stdin=pipe, stdout=pipe) as child:
        yield child


def wait_until_held(child: subprocess.Popen[str]) -> None:
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n", f"a process ended with {child.wait()}"


def statuses(url: str) -> dict[str, list[str]]:
    """Return, by collection, what `intramodal runs list` says, the earliest run first."""
    found: dict[str, list[str]] = {}
    for row in reversed(run("runs", "list", "--runs", url)["runs"]):
        found.setdefault(row["collection"], []).append(row["status"])
    return found


def keys(store: str, collection: str) -> set[str]:
    with open_store(store) as opened:
        table = ImageCollection.open(opened, collection).table(["raw"], payload=["path"])
    return set(table.payload["path"])


def test_the_killed_one_is_interrupted_and_resumed_and_the_other_is_not_disturbed(
    pictures: str, runs_url: str, tmp_path: Path
) -> None:
    store = str(tmp_path / "store")
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(started(name, pictures, store, runs_url)) for name in ("a", "b")
        )
        wait_until_held(first)
        wait_until_held(second)
        assert statuses(runs_url) == {"a": ["RUNNING"], "b": ["RUNNING"]}
        first.kill()
        first.wait(DEADLINE_S)
        assert statuses(runs_url)["a"] == ["INTERRUPTED"]
        second.communicate("go on\n", timeout=DEADLINE_S)
        assert second.returncode == 0
    assert statuses(runs_url) == {"a": ["INTERRUPTED"], "b": ["COMPLETE"]}
    survived = keys(store, "a")
    assert len(survived) < N == len(keys(store, "b"))

    encoder = PlainEncoder()
    summary = ingest_all(encoder, "a", pictures, store, runs_url)
    assert (encoder.n_encoded, summary["skipped"]) == (N - len(survived), len(survived))
    assert keys(store, "a") == keys(store, "b")
    assert statuses(runs_url) == {"a": ["INTERRUPTED", "COMPLETE"], "b": ["COMPLETE"]}


if __name__ == "__main__":
    ingest_all(HeldEncoder(), *sys.argv[1:5])
