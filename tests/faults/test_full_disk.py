"""Embedded stores on a disk that is, or becomes, full: an error, never SIGBUS (issue 20).

The disk is a tmpfs. Whatever works on it does so in a process of its own, as SIGBUS would end this
one: run as a module, this file is that process.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal.errors import StoreError
from intramodal.ingest.pipeline import ingest_images
from intramodal.ingest.sources.formats import open_source
from intramodal.projection.projection import Projection
from intramodal.store.base import VectorSpec
from intramodal.store.open import open_store
from intramodal.types import declared_fingerprint
from tests.plain_encoder import PlainEncoder, collection_for, write_pictures

pytest.importorskip("qdrant_edge", reason="no wheel of qdrant-edge-py for this platform")

ROOT = Path(__file__).parents[2]
MB = 1_000_000
DISK_MB = 60
D, K = 64, 16
CLIP = "clip"


@dataclass(frozen=True)
class Disk:
    """A small disk with a store, and what is done to it."""

    folder: Path
    inputs: Path
    as_whom: list[str]
    """How to become somebody who may mount."""

    def grow(self, n_bytes: int) -> None:
        mount = [*self.as_whom, "mount", "-o", f"remount,size={n_bytes}", str(self.folder)]
        subprocess.run(mount, check=True)

    @property
    def store(self) -> str:
        return str(self.folder / "store")

    @property
    def free(self) -> int:
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def leave(self, n_bytes: int) -> None:
        """Let somebody else take all but so many bytes."""
        with (self.folder / "others").open("ab") as file:
            file.write(b"x" * max(0, self.free - n_bytes))

    def clear(self) -> None:
        (self.folder / "others").unlink()

    def run(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """Run a command; return what it has printed, and its error, which is one line."""
        places = ("--store", self.store, "--runs", str(self.folder / "runs.db"))
        # The last of an option counts.
        command, *rest = arguments
        run = "from intramodal.cli import cli; cli()"
        done = _python("-c", run, command, *places, *rest)
        assert done.returncode == code, done.stdout + done.stderr
        errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        assert len(errors) == (1 if code else 0), done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout, "".join(errors)

    def work(self, what: str, code: int = 0) -> str:
        """Run a function of this file on the store."""
        done = _python("-m", "tests.faults.test_full_disk", what, self.store)
        assert done.returncode == code, f"{done.returncode} {done.stdout} {done.stderr}"
        return done.stdout.strip()

    def points(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.work("read"))
        return found

    def matrix(self, name: str, n: int, text: int) -> list[str]:
        """Write vectors with texts of so many letters; return how they are ingested."""
        path, table = self.inputs / f"{name}.npy", self.inputs / f"{name}.csv"
        rng = np.random.default_rng(n)
        np.save(path, rng.normal(size=(n, D)).astype(np.float32))
        with table.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["id", "label", "text"])
            rows.writerows([i, f"class {i % 7}", _text(rng, text)] for i in range(n))
        return ["ingest", str(path), "--collection", name, "--made-by", CLIP, "--metadata",
                str(table)]  # fmt: skip

    def projection(self) -> str:
        path = self.inputs / "pca.safetensors"
        Q = np.linalg.qr(np.random.default_rng(5).normal(size=(D, K)))[0]
        Projection(Q, "pca", CLIP, declared_fingerprint(CLIP)).save(path)
        return str(path)


def _text(rng: np.random.Generator, n: int) -> str:
    """Return a text that does not get shorter when the engine compresses it."""
    return rng.bytes(n // 2).hex()


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB * MB}", "tmpfs", str(folder)]
    as_whom: list[str] | None = next(
        (who for who in ([], ["sudo", "-n"]) if _succeeds(*who, *command)), None
    )
    if as_whom is None:
        pytest.skip("the right to mount a tmpfs, as root or by sudo")
    subprocess.run([*as_whom, "chmod", "a+rwx", str(folder)], check=True)
    try:
        yield Disk(folder, tmp_path, as_whom)
    finally:
        subprocess.run([*as_whom, "umount", "-l", str(folder)], check=True)


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def test_an_ingest_that_fills_the_disk_says_so_and_goes_on_once_there_is_space(
    disk: Disk,
) -> None:
    ingest = disk.matrix("photos", 12_000, 2_500)
    _, error = disk.run(*ingest, code=1)
    assert "disk" in error
    assert "must be free" in error
    assert "run the same command again" in error
    assert 0 < disk.free < 24 * MB  # filled, but for what closing and opening take
    (n,) = (found["n"] for found in disk.points().values())
    assert 5_000 < n < 12_000
    disk.run("search", "photos", "--id", "5", "--vectors", "raw")
    disk.grow(3 * DISK_MB * MB)
    result = json.loads(disk.run(*ingest, "--json")[0])
    assert (result["written"], result["skipped"]) == (12_000 - n, n)
    assert disk.points()["photos"]["n"] == 12_000


SLOW = pytest.mark.slow
JOBS = {
    "ingest": ["ingest", "{inputs}/more.npy", "--collection", "photos", "--made-by", CLIP],
    "backfill": ["backfill", "photos", "--projection", "{pca}"],
    "recompute": ["backfill", "photos", "--projection", "{pca}", "--recompute", "label=class 1"],
    "copy": ["backfill", "photos", "--projection", "{pca}", "--new-collection", "photos2"],
}


@pytest.mark.parametrize(
    "job",
    ["ingest", "backfill", *(pytest.param(job, marks=SLOW) for job in ("recompute", "copy"))],
)
def test_a_job_is_refused_before_it_writes_and_does_it_all_once_there_is_space(
    disk: Disk, job: str
) -> None:
    disk.run(*disk.matrix("photos", 3_000, 20))
    disk.matrix("more", 5_000, 20)
    places = {"inputs": str(disk.inputs), "pca": disk.projection()}
    if job == "recompute":
        disk.run("backfill", "photos", "--projection", places["pca"])
    before = disk.points()
    disk.leave(8_000_000)
    command = [argument.format(**places) for argument in JOBS[job]]
    _, error = disk.run(*command, code=1)
    assert "must be free" in error
    if job != "ingest":
        plan = json.loads(disk.run(*command, "--dry-run", "--json")[0])
        assert [note for note in plan["notes"] if "must be free" in note]
    assert disk.points() == before
    disk.clear()
    disk.run(*command)
    after = disk.points()
    assert after != before or job == "recompute"


def test_images_stop_where_the_disk_ends_and_none_is_encoded_again(disk: Disk) -> None:
    pictures = disk.folder / "pictures"
    pictures.mkdir()
    write_pictures(pictures, 60)
    (pictures / "0").rename(disk.folder / "later")
    assert json.loads(disk.work("ingest-images")) == {"written": 48, "skipped": 0, "encoded": 48}
    (disk.folder / "later").rename(pictures / "0")
    disk.leave(8_000_000)
    assert "must be free" in disk.work("ingest-images")
    assert disk.points()["photos"]["n"] == 48
    disk.clear()
    assert json.loads(disk.work("ingest-images")) == {"written": 12, "skipped": 48, "encoded": 12}


def test_a_disk_without_a_free_byte_is_read_rolled_back_and_dropped_from(disk: Disk) -> None:
    disk.run(*disk.matrix("photos", 2_000, 20))
    disk.run("backfill", "photos", "--projection", disk.projection())
    before = disk.points()
    disk.leave(0)
    assert disk.free == 0
    disk.run("search", "photos", "--id", "5", "--vectors", "raw")
    # What is declared already needs no room, and a run that cannot be recorded stops nothing.
    disk.run("adopt", "photos", "--vector", "raw", "--made-by", CLIP)
    assert disk.points() == before
    assert "removed" in disk.work("roll-back")
    after = disk.points()
    assert after["photos"]["n"] == before["photos"]["n"]
    disk.leave(0)
    disk.work("drop")
    assert disk.points() == {}
    assert disk.free > 5 * MB


def test_a_drop_makes_its_own_room(disk: Disk) -> None:
    disk.run(*disk.matrix("photos", 500, 20))
    (disk.folder / "store/ballast").unlink()
    disk.leave(0)
    disk.work("drop")
    assert disk.points() == {}


def test_a_writer_killed_on_a_full_disk_has_lost_nothing(disk: Disk) -> None:
    n = int(disk.work("write-and-die", -signal.SIGKILL))
    assert n >= 5_000
    assert disk.points()["photos"]["n"] == n
    # The log is applied now; to others the disk is full.
    disk.leave(0)
    assert disk.points()["photos"]["n"] == n


def test_changes_that_were_not_saved_need_space_to_be_opened(disk: Disk) -> None:
    assert int(disk.work("write-some-and-die", -signal.SIGKILL)) == 3_000
    disk.leave(0)
    error = disk.work("read-or-say")
    assert error.startswith("cannot open 'photos'")
    assert "free some space" in error
    disk.clear()
    assert disk.points()["photos"]["n"] == 3_000


def test_an_optimizer_that_fills_the_disk_leaves_the_collection(disk: Disk) -> None:
    disk.work("write-what-is-indexed")
    before = disk.points()
    disk.leave(600_000)
    assert "full" in disk.work("optimize-and-say")
    assert disk.points() == before
    assert not list((disk.folder / "store").glob("*/temp_segments/*"))
    disk.clear()
    assert disk.work("optimize-and-say") == ""
    assert disk.points() == before


def test_files_are_whole_or_absent_on_a_full_disk(disk: Disk) -> None:
    place = ("--store", str(disk.inputs / "store"), "--runs", str(disk.inputs / "runs.db"))
    disk.run(*disk.matrix("photos", 2_000, 20), *place)
    disk.leave(300_000)
    out = disk.folder / "x.npy"
    _, error = disk.run("export", "photos", "--vector", "raw", "-o", str(out), *place, code=1)
    assert "No space left" in error
    assert [path.name for path in disk.folder.iterdir()] == ["others"]


@pytest.mark.parametrize("is_there", [False, True])
def test_a_command_whose_runs_cannot_be_recorded_ends_with_its_result_and_one_warning(
    disk: Disk, is_there: bool
) -> None:
    runs, store = disk.folder / "runs.db", str(disk.inputs / "store")
    kept = runs if is_there else disk.inputs / "runs.db"
    disk.run(*disk.matrix("photos", 200, 20), "--store", store, "--runs", str(kept))
    disk.leave(0)
    where = ("--store", store, "--runs", str(runs), "--json")
    command = ("evaluate", "retrieval", "photos", "--vectors", "raw", "--labels", "label")
    done = _python("-c", "from intramodal.cli import cli; cli()", *command, *where)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n_points"] == 200
    assert done.stderr.count("WARNING") == 1
    assert "cannot be written, the disk is full; free some space" in done.stderr


def read(location: str) -> None:
    """Print what every collection holds."""
    found = {}
    with open_store(location) as store:
        for name in store.collections():
            vectors = sorted(store.info(name).vectors)
            digest, n = hashlib.sha256(), 0
            for page in store.scroll(name, vectors=vectors, payload=True):
                n += len(page.ids)
                digest.update(json.dumps([page.ids, page.payloads]).encode())
                for vector in vectors:
                    digest.update(page.vectors[vector].tobytes())
            found[name] = {"n": n, "vectors": vectors, "digest": digest.hexdigest()}
    print(json.dumps(found))  # noqa: T201  to the parent


def say(what: Any) -> None:
    """Print the sentence of a refusal."""
    try:
        what()
    except StoreError as error:
        print(error)  # noqa: T201  to the parent


def optimize(location: str) -> None:
    """Build the indexes without the look at the disk before."""
    from intramodal.store.edge.engine import optimize_in_child

    contents = json.loads((Path(location) / "catalogue.json").read_text())
    folder = contents["collections"]["photos"]["folder"]
    optimize_in_child(Path(location) / folder, 600)


def roll_back(location: str) -> None:
    from intramodal.ingest.backfill.rollback import rollback_vector
    from intramodal.store.collection import ImageCollection

    with open_store(location) as store:
        print(rollback_vector(ImageCollection.open(store, "photos")).sentence)  # noqa: T201


def ingest_pictures(location: str) -> None:
    encoder = PlainEncoder()
    source = open_source(str(Path(location).parent / "pictures"))
    with open_store(location) as store:
        collection = collection_for(store, encoder)
        done = ingest_images(source, collection, encoder=encoder, workers=0)
    figures = {"written": done.written, "skipped": done.skipped, "encoded": encoder.n_encoded}
    print(json.dumps(figures))  # noqa: T201  to the parent


def drop(location: str) -> None:
    with open_store(location) as store:
        store.drop("photos")


def write_indexed(location: str) -> None:
    """Write points of which the engine builds an index, however few they are."""
    options = {"optimizers_config": {"indexing_threshold": 100}}
    X = np.random.default_rng(0).normal(size=(4_000, D)).astype(np.float32)
    with open_store(location) as store:
        store.create("photos", {"raw": VectorSpec(D)}, options=options)
        store.upsert("photos", list(range(4_000)), {"raw": X}, [{}] * 4_000)


def write_and_die(location: str, *, most: int = 1_000_000) -> None:
    """Write until the disk is full or so many points are there, and die without a word."""
    store, n = open_store(location), 0
    store.create("photos", {"raw": VectorSpec(D)})
    X = np.random.default_rng(0).normal(size=(1_000, D)).astype(np.float32)
    rng = np.random.default_rng(0)
    while n < most:
        payloads = [{"text": _text(rng, 1_500)} for _ in X]
        try:
            store.upsert("photos", list(range(n, n + 1_000)), {"raw": X}, payloads)
        except StoreError:
            break
        n += 1_000
    print(n, flush=True)  # noqa: T201
    os.kill(os.getpid(), signal.SIGKILL)


WORK = {
    "read": read,
    "read-or-say": lambda location: say(lambda: read(location)),
    "optimize-and-say": lambda location: say(lambda: optimize(location)),
    "roll-back": roll_back,
    "drop": drop,
    "ingest-images": lambda location: say(lambda: ingest_pictures(location)),
    "write-what-is-indexed": write_indexed,
    "write-and-die": write_and_die,
    "write-some-and-die": lambda location: write_and_die(location, most=3_000),
}

if __name__ == "__main__":
    WORK[sys.argv[1]](sys.argv[2])
