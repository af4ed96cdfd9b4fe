"""Made `stores-0001.tar.xz`: embedded stores and a runs database, written by 0.1.0 (23a6645).

Run with that tree and the script of its time, not with newer ones:
`python tests/data/make_stores_0001.py`, where strace is.
The stores, each with 200 points of two segments, `raw` (24) and in some `pca` (12):

- ``whole``: filled, indexed, with an alias; ``runs.db`` holds the runs that made it.
- ``added-half``: SIGKILL while a backfill added `pca`, after the segments and before the engine's
  ``edge_config.json`` knew of it.
- ``removed-half``: the same while a rollback removed it.
- ``removed-unsaid``: killed after the catalogue, before the engine had removed it.
- ``first-segment``: removed from one of the two segments only.
- ``orphans``: a folder that a killed `create` left, and one that a killed `drop` left in ruins.
- ``copied-half``: a copy (`--new-collection`) killed after 100 points.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from intramodal.ingest.backfill.copy import copy_collection
from intramodal.ingest.backfill.in_place import backfill
from intramodal.ingest.backfill.rollback import rollback_vector
from intramodal.projection.projection import Projection
from intramodal.runs.ledger import RunLedger
from intramodal.store.base import VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.store.open import open_store

N, D, K = 200, 24, 12
OPTIONS = {"optimizers_config": {"indexing_threshold": 10}}


class Halting(Projection):
    """Ends the process like a power cut at the second batch."""

    n_batches = 0

    def apply(self, X: Any) -> Any:
        type(self).n_batches += 1
        if self.n_batches == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().apply(X)


def projection(kind: type[Projection] = Projection) -> Projection:
    square = np.random.default_rng(5).normal(size=(D, D))
    return kind(np.linalg.qr(square)[0][:, :K].copy(), "pca", "plain", "fp")


def make_whole(where: Path, runs: Path) -> None:
    X = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
    payloads = [{"label": f"l{n % 5}", "nested": {"a": [1, {"b": None}]}} for n in range(N)]
    raw = VectorOrigin("plain", "fp")
    with open_store(str(where)) as store:
        shop = ImageCollection.create(store, "shop", {"raw": (D, raw)}, options=OPTIONS)
        store.ensure_index("shop", "label", "keyword")
        shop.write(range(150), {"raw": X[:150]}, payloads[:150])
        store.optimize("shop")
        shop.write(range(150, N), {"raw": X[150:]}, payloads[150:])
        store.set_alias("shown", "shop")
        if runs.name == "none":
            return
        with RunLedger.open(str(runs)) as ledger, ledger.run("backfill") as run:
            backfill(shop, projection(), run=run)


def killed(what: str, where: Path, path: Path, at: int) -> None:
    """Do `what` in a child that is killed at the `at`-th rename into the folder `path`."""
    inject = f"inject=renameat:signal=KILL:when={at}"
    command = ["strace", "-f", "-o", "/dev/null", "-P", str(path), "-e", inject]
    child = subprocess.run([*command, sys.executable, __file__, what, str(where)], check=False)
    assert child.returncode == -signal.SIGKILL, child.returncode


def shard_of(where: Path) -> Path:
    contents = json.loads((where / "catalogue.json").read_text())
    return where / contents["collections"]["shop"]["folder"]


def work(what: str, where: str) -> None:
    with open_store(where) as store:
        shop = ImageCollection.open(store, "shop")
        if what == "backfill":
            backfill(shop, projection())
        elif what == "rollback":
            rollback_vector(shop)
        elif what == "half-copy":
            copy_collection(shop, projection(Halting), new_collection="shop_v2", batch_size=100)


def make_added_half(folder: Path) -> None:
    made = folder / "added-half"
    shutil.copytree(folder / "bare", made)
    # Renames into it: opening, the removal of a leftover, then the addition.
    killed("backfill", made, shard_of(made), 3)


def make_removed_half(folder: Path) -> None:
    made = folder / "removed-half"
    shutil.copytree(folder / "whole", made)
    killed("rollback", made, shard_of(made), 2)


def make_first_segment(folder: Path) -> None:
    made = folder / "first-segment"
    for segment in (shard_of(folder / "whole") / "segments").iterdir():
        shutil.copytree(folder / "whole", made)
        segments = shard_of(made) / "segments"
        killed("rollback", made, segments / segment.name, 1)
        known = ["pca" in (one / "segment.json").read_text() for one in segments.iterdir()]
        if known.count(True) == 1:  # it was the second one's turn
            return
        shutil.rmtree(made)
    raise AssertionError("neither segment is changed second")


def without(made: Path, forget: Callable[[dict[str, Any]], None]) -> None:
    """Change what the catalogue says of the collections."""
    path = made / "catalogue.json"
    contents = json.loads(path.read_text())
    forget(contents["collections"])
    path.write_text(json.dumps(contents, indent=1))


def make_removed_unsaid(folder: Path) -> None:
    made = folder / "removed-unsaid"
    shutil.copytree(folder / "whole", made)
    without(made, lambda collections: collections["shop"]["vectors"].pop("pca"))


def make_orphans(folder: Path) -> None:
    made = folder / "orphans"
    shutil.copytree(folder / "bare", made)
    with open_store(str(made)) as store:
        store.create("gone", {"raw": VectorSpec(D)})
        store.create("ruin", {"raw": VectorSpec(D)})
    without(made, lambda collections: collections.pop("gone"))
    ruin: list[Any] = []
    without(made, lambda collections: ruin.append(collections.pop("ruin")))
    shutil.rmtree(made / ruin[0]["folder"] / "segments")


def make_copied_half(folder: Path) -> None:
    made = folder / "copied-half"
    shutil.copytree(folder / "bare", made)
    child = subprocess.run([sys.executable, __file__, "half-copy", str(made)], check=False)
    assert child.returncode == -signal.SIGKILL


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    make_whole(folder / "bare", folder / "none")
    make_whole(folder / "whole", folder / "runs.db")
    for make in (
        *(make_added_half, make_removed_half, make_first_segment, make_removed_unsaid),
        *(make_orphans, make_copied_half),
    ):
        make(folder)
    shutil.rmtree(folder / "bare")
    with tarfile.open(Path(__file__).with_name("stores-0001.tar.xz"), "w:xz") as tar:
        for made in sorted(folder.iterdir()):
            tar.add(made, made.name)


if __name__ == "__main__":
    main() if len(sys.argv) == 1 else work(*sys.argv[1:])
