"""The jobs that are killed at their system calls, on worlds as small as they can be.

Run as a module, this file is the process that is killed: ``plain JOB WORLD STORE``, the same with
``stoppable`` for the handlers of the command line, or ``command ARGUMENT...`` for that itself.
"""

from __future__ import annotations

import errno
import functools
import itertools
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from intramodal.ingest.backfill.copy import copy_collection
from intramodal.ingest.backfill.in_place import backfill
from intramodal.ingest.backfill.rollback import rollback_vector
from intramodal.ingest.pipeline import ingest_images
from intramodal.ingest.sources.formats import open_source
from intramodal.store.base import Store
from intramodal.store.collection import ImageCollection
from intramodal.store.edge.catalogue import Catalogue
from intramodal.store.edge.store import EdgeStore
from intramodal.store.manifest import VectorOrigin
from intramodal.store.open import open_store
from intramodal.types import unit_rows
from tests.faults.syscalls import INTERPRETER, KILLED_AT, STEPS
from tests.plain_encoder import (
    DIM,
    PlainEncoder,
    collection_for,
    plain_projection,
    write_pictures,
)

STORE_STEPS = (
    *("create", "drop", "add_vector", "delete_vector", "upsert", "insert", "update_vectors"),
    *("set_payload", "delete", "set_metadata", "ensure_index", "set_aliases", "optimize"),
)

N_POINTS, N_INDEXED = 200, 150
N_PICTURES, N_BYSTANDERS = 24, 6
BATCH, PICTURES_A_BATCH = 60, 4


def origin() -> VectorOrigin:
    encoder = PlainEncoder()
    return VectorOrigin(encoder.name, encoder.fingerprint)


def options(threshold_kb: int) -> dict[str, Any]:
    """Return options by which `optimize` gives a collection a segment that is indexed."""
    return {"optimizers_config": {"indexing_threshold": threshold_kb}}


# Worlds: a folder with a store and what else a job reads


def make_shop(world: Path) -> None:
    """Make a collection of two segments without a projected vector, and another collection."""
    X = unit_rows(np.random.default_rng(0).normal(size=(N_POINTS, DIM)))
    payloads = [
        {"label": f"l{n % 5}", "n": n, "nested": {"a": [1, {"b": None, "c": "é"}]}}
        for n in range(N_POINTS)
    ]
    with open_store(str(world / "store")) as store:
        made = ImageCollection.create(store, "shop", {"raw": (DIM, origin())}, options=options(10))
        store.ensure_index("shop", "label", "keyword")
        made.write(range(N_INDEXED), {"raw": X[:N_INDEXED]}, payloads[:N_INDEXED])
        store.optimize("shop")
        made.write(range(N_INDEXED, N_POINTS), {"raw": X[N_INDEXED:]}, payloads[N_INDEXED:])
        store.set_alias("shown", "shop")
        other = ImageCollection.create(store, "other", {"raw": (DIM, origin())})
        other.write(range(5), {"raw": X[:5]}, payloads[:5])
    plain_projection(PlainEncoder()).save(world / "pca.safetensors")


def make_filled_shop(world: Path) -> None:
    """Make the same with the projected vector."""
    make_shop(world)
    do_backfill(world, world / "store")


def make_pictures(world: Path) -> None:
    (world / "pictures").mkdir(parents=True)
    write_pictures(world / "pictures", N_PICTURES)


def make_photos(world: Path) -> None:
    """Make a collection of some of the pictures, one of which has changed, and of other points."""
    make_pictures(world)
    hidden = [world / "pictures" / f"{n % 5}" / f"{n}.png" for n in (3, 7, 11, 16, 20, 23)]
    for path in hidden:
        path.rename(world / path.name)
    X = unit_rows(np.random.default_rng(1).normal(size=(N_BYSTANDERS, DIM)))
    projection = plain_projection(PlainEncoder())
    vectors = {"raw": X, "pca": unit_rows(projection.apply(X))}
    with open_store(str(world / "store")) as store:
        photos = make_collection(store)
        load(world, photos)
        store.optimize("photos")
        photos.write(range(N_BYSTANDERS), vectors, [{"of": "others"}] * N_BYSTANDERS)
        store.ensure_index("photos", "label", "keyword")
        store.set_alias("shown", "photos")
    for path in hidden:
        (world / path.name).rename(path)
    change_picture(world / "pictures" / "1" / "6.png")


def make_pruned_photos(world: Path) -> None:
    """Make the same; some of its pictures have gone, and there are new ones."""
    make_photos(world)
    for n in (0, 9, 14):
        (world / "pictures" / f"{n % 5}" / f"{n}.png").unlink()


def change_picture(path: Path) -> None:
    assert path.exists()
    noise = np.random.default_rng(9).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def make_collection(store: Store) -> ImageCollection:
    encoder = PlainEncoder()
    wanted = {"raw": (DIM, origin())}
    if not store.exists("photos"):
        ImageCollection.create(
            store, "photos", {**wanted, "pca": (DIM // 2, pca_origin())}, options=options(1)
        )
    return collection_for(store, encoder, plain_projection(encoder))


def pca_origin() -> VectorOrigin:
    encoder = PlainEncoder()
    projection = plain_projection(encoder)
    return VectorOrigin(
        encoder.name, encoder.fingerprint, projection=projection.fingerprint, source="raw"
    )


# The jobs; each returns how much it has written


def load(world: Path, photos: ImageCollection, *, prune: bool = False) -> int:
    encoder = PlainEncoder()
    source = open_source(str(world / "pictures"), label_from="parent")
    summary = ingest_images(
        *(source, photos),
        encoder=encoder,
        projection=plain_projection(encoder),
        batch_size=PICTURES_A_BATCH,
        workers=0,
        prune=prune,
    )
    assert summary.failed == 0, summary.failures
    return summary.written + summary.updated + summary.projected + summary.pruned


def do_backfill(world: Path, location: Path) -> int:
    with open_store(str(location)) as store:
        shop = ImageCollection.open(store, "shop")
        projection = plain_projection(PlainEncoder())
        return backfill(shop, projection, batch_size=BATCH, on_disk=True).projected


def do_rollback(world: Path, location: Path) -> int:
    with open_store(str(location)) as store:
        return rollback_vector(ImageCollection.open(store, "shop")).removed


def do_copy(world: Path, location: Path) -> int:
    with open_store(str(location)) as store:
        shop = ImageCollection.open(store, "shop")
        projection = plain_projection(PlainEncoder())
        return copy_collection(shop, projection, new_collection="new", batch_size=BATCH).copied


def do_ingest(world: Path, location: Path) -> int:
    with open_store(str(location)) as store:
        return load(world, make_collection(store))


def do_prune(world: Path, location: Path) -> int:
    with open_store(str(location)) as store:
        return load(world, make_collection(store), prune=True)


@dataclass(frozen=True)
class Job:
    """What makes a world, what is done in it, and the command that does the same."""

    make: Callable[[Path], None]
    do: Callable[[Path, Path], int]
    command: tuple[str, ...] = ()
    counts: str = ""  # the key of its JSON that says how much it has written

    def child(self, name: str, by: signal.Signals, world: Path, location: Path) -> list[str]:
        """Return the command that starts the process which is sent the signal."""
        if by == signal.SIGTERM and self.command:
            how = ["command", *self.arguments(world, location)]
        else:
            is_plain = by == signal.SIGKILL
            how = ["plain" if is_plain else "stoppable", name, str(world), str(location)]
        return [sys.executable, "-m", "tests.faults.killed_work", *how]

    def arguments(self, world: Path, location: Path) -> list[str]:
        """Return what the command line is given."""
        places = ["--store", str(location), "--runs", str(location.with_name("runs.db"))]
        return [part.format(world=world) for part in self.command] + places


_SHOP = ("backfill", "shop")
_FILLING = (*_SHOP, "--projection", "{world}/pca.safetensors", "--batch-size", str(BATCH))

JOBS = {
    "backfill": Job(make_shop, do_backfill, (*_FILLING, "--on-disk"), "projected"),
    "ingest": Job(make_photos, do_ingest),
    "first ingest": Job(make_pictures, do_ingest),
    "prune": Job(make_pruned_photos, do_prune),
    "rollback": Job(make_filled_shop, do_rollback, (*_SHOP, "--rollback"), "removed"),
    "copy": Job(make_shop, do_copy, (*_FILLING, "--new-collection", "new"), "copied"),
}


def copy_store(world: Path, location: Path) -> None:
    """Bring the world's store, if it has one, to a place that is cleared before."""
    shutil.rmtree(location, ignore_errors=True)
    if (world / "store").exists():
        shutil.copytree(world / "store", location, copy_function=_copy_sparse)


def _copy_sparse(source: str, target: str) -> None:
    """Copy a file without its holes: the engine's are mostly that, 30 MB each."""
    with Path(source).open("rb") as old, Path(target).open("wb") as new:
        size, end = os.fstat(old.fileno()).st_size, 0
        while (start := _next_data(old.fileno(), end, size)) < size:
            end = os.lseek(old.fileno(), start, os.SEEK_HOLE) if _FINDS_HOLES else size
            old.seek(start)
            new.seek(start)
            new.write(old.read(end - start))
        new.truncate(size)


_FINDS_HOLES = hasattr(os, "SEEK_HOLE")


def _next_data(file: int, start: int, size: int) -> int:
    """Return where data begins at or after `start`; the file's size where none does."""
    if start >= size or not _FINDS_HOLES:
        return start
    try:
        return os.lseek(file, start, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size
        raise


# The process that is killed


class Steps:
    """Counts the beginnings and ends of what changes a store; lists them, or kills at one."""

    def __init__(self, listed: str | None, killed_at: str | None) -> None:
        self._listed = listed
        self._at, self._by = map(int, (killed_at or "0:0").split(":"))
        self._n = 0

    def take(self, when: str, what: str) -> None:
        self._n += 1
        if self._listed is not None:
            with Path(self._listed).open("a") as file:
                file.write(f"{when} {what}\n")
        if self._n == self._at:
            os.kill(os.getpid(), self._by)

    def wrap(self, kind: type[Any], name: str) -> None:
        """Count the calls of a method."""
        method = getattr(kind, name)

        @functools.wraps(method)
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.take("before", name)
            result = method(*args, **kwargs)
            self.take("after", name)
            return result

        setattr(kind, name, counted)


def count_steps() -> None:
    steps = Steps(os.environ.get(STEPS), os.environ.get(KILLED_AT))
    for name in STORE_STEPS:
        steps.wrap(EdgeStore, name)
    steps.wrap(Catalogue, "save")


def be_foreseeable() -> None:
    """Name folders by number, and write in the main thread: strace counts calls by thread."""
    numbers = itertools.count(1)
    vars(secrets)["token_hex"] = lambda n_bytes: f"{next(numbers):08x}"
    setattr(EdgeStore, "upload_streams", lambda store, name: 0)  # noqa: B010
    sys.executable = os.environ.get(INTERPRETER, sys.executable)


def stoppable(work: Callable[[], object]) -> int:
    """Work with the handlers of the command line; returns the exit code."""
    from intramodal.cli import Stopped, StopSignals

    with StopSignals() as signals:
        try:
            signals.install()
            work()
        except Stopped as stopped:
            return stopped.exit_code
    return 0


def main(how: str, arguments: list[str]) -> int:
    be_foreseeable()
    if {STEPS, KILLED_AT} & os.environ.keys():
        count_steps()
    # A job in a shell's background ignores some signals, and what it starts would, too.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if how == "command":
        from intramodal.cli import cli as command_line  # not for the others: 0.2 s

        sys.argv = ["intramodal", *arguments]
        command_line()
        return 0
    name, world, location = arguments
    work = functools.partial(JOBS[name].do, Path(world), Path(location))
    if how == "stoppable":
        return stoppable(work)
    work()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
