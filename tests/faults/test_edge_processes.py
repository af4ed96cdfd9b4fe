"""Several processes make, change, drop and read the collections of one directory at the same time.

``INTRAMODAL_PROCESSES_S`` says for how many seconds (3 by default).
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from intramodal.errors import Conflict, Locked, NotFound
from intramodal.store.base import Store, VectorSpec
from intramodal.store.open import open_store

pytest.importorskip("qdrant_edge", reason="no wheel of qdrant-edge-py for this platform")

SECONDS = float(os.environ.get("INTRAMODAL_PROCESSES_S", "3"))
N_PROCESSES = 3
KEPT, N_KEPT = "kept", 50
X = np.random.default_rng(3).normal(size=(N_KEPT, 4)).astype(np.float32)


def act(store: Store, what: str, name: str, point: int) -> None:
    if what == "create":
        store.create(name, {"raw": VectorSpec(4)})
    elif what == "drop":
        store.drop(name)
    elif what == "add":
        store.add_vector(name, "pca", VectorSpec(2))
    elif what == "remove":
        store.delete_vector(name, "pca")
    elif what == "write":
        store.upsert(name, [point], {"raw": X[:1]}, [{}])
    else:
        for found in store.collections():
            store.count(found)


def work(location: str, seed: int) -> dict[str, int]:
    """Do something every moment; what others have taken, locked or dropped is no fault."""
    rng, end, done = random.Random(seed), time.monotonic() + SECONDS, {}
    while time.monotonic() < end:
        what = rng.choice(["create", "drop", "add", "remove", "write", "read"])
        # `kept` has vectors added and removed, too, but is never dropped.
        name = KEPT if what in ("add", "remove") and rng.random() < 0.5 else f"c{rng.randrange(3)}"
        try:
            with open_store(location) as store:
                act(store, what, name, rng.randrange(9))
        except (NotFound, Conflict, Locked) as error:
            what = type(error).__name__
        done[what] = done.get(what, 0) + 1
    return done


def test_processes_that_share_a_directory_leave_whole_collections(tmp_path: Path) -> None:
    location = str(tmp_path / "store")
    with open_store(location) as store:
        store.create(KEPT, {"raw": VectorSpec(4, "Dot")})
        store.upsert(KEPT, list(range(N_KEPT)), {"raw": X}, [{"n": n} for n in range(N_KEPT)])
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.faults.test_edge_processes", location]
    children = [
        subprocess.Popen([*command, str(seed)], cwd=root, stdout=subprocess.PIPE, text=True)
        for seed in range(N_PROCESSES)
    ]
    done = [json.loads(child.communicate(timeout=120)[0] or "{}") for child in children]
    assert [child.returncode for child in children] == [0] * N_PROCESSES
    assert sum(counts.get("create", 0) for counts in done) > 0
    with open_store(location) as store:
        assert store.problems() == {}
        page = store.retrieve(KEPT, list(range(N_KEPT)), vectors=["raw"], payload=True)
        np.testing.assert_array_equal(page.vectors["raw"], X)
        assert page.payloads == [{"n": n} for n in range(N_KEPT)]
    folders = [path for path in (tmp_path / "store").iterdir() if path.is_dir()]
    catalogue = json.loads((tmp_path / "store/catalogue.json").read_text())
    assert {path.name for path in folders} == {
        entry["folder"] for entry in catalogue["collections"].values()
    }


if __name__ == "__main__":
    print(json.dumps(work(sys.argv[1], int(sys.argv[2]))))  # noqa: T201  to the parent
