"""The embedded store's locks keep out versions that spell them with `fcntl`, and are kept out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from intramodal.errors import Locked, StoreError
from intramodal.store.base import VectorSpec
from intramodal.store.edge import catalogue, engine
from intramodal.store.edge.catalogue import Catalogue
from intramodal.store.open import open_store

pytest.importorskip("fcntl")

# As version 0.1 takes it, of a file or of a folder; says so, and keeps it until told.
_OLD_WAY = """
import fcntl, os, sys
path = sys.argv[1]
if os.path.isdir(path):
    descriptor = os.open(path, os.O_RDONLY)
else:
    file = open(path, "a+b")
    descriptor = file.fileno()
try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("refused", flush=True)
else:
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def old_lock(path: Path) -> Iterator[str]:
    """Yield what a process of an older version says of taking a lock, while it has it."""
    command = [sys.executable, "-c", _OLD_WAY, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        yield child.stdout.readline().strip()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Seconds that pass only by sleeping."""
    told = SimpleNamespace(now=0.0)

    def sleep(seconds: float) -> None:
        told.now += seconds

    fake = SimpleNamespace(monotonic=lambda: told.now, sleep=sleep)
    monkeypatch.setattr(catalogue, "time", fake)
    monkeypatch.setattr(engine, "time", fake)
    return told


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with one collection."""
    with open_store(str(tmp_path / "store")) as store:
        store.create("photos", {"raw": VectorSpec(4)})
    return tmp_path / "store"


def log_of(folder: Path) -> Path:
    (log,) = folder.glob("photos-*/wal")
    return log


def test_an_older_version_that_changes_the_catalogue_is_waited_for(
    folder: Path, clock: SimpleNamespace
) -> None:
    with open_store(str(folder)) as store:
        with old_lock(folder / "catalogue.lock") as said:
            assert said == "held"
            with pytest.raises(Locked) as refused:
                store.set_alias("now", "photos")
        assert str(refused.value) == (
            f"another process has been changing {folder} for 10 s; try again when it is done"
        )
        assert 10 < clock.now < 10.1
        store.set_alias("now", "photos")


def test_an_older_version_waits_while_the_catalogue_is_changed(folder: Path) -> None:
    with Catalogue(folder).locked(), old_lock(folder / "catalogue.lock") as said:
        assert said == "refused"
    with old_lock(folder / "catalogue.lock") as said:
        assert said == "held"


def test_an_older_version_that_holds_a_collection_is_waited_for(
    folder: Path, clock: SimpleNamespace
) -> None:
    with old_lock(log_of(folder)) as said, open_store(str(folder)) as store:
        assert said == "held"
        with pytest.raises(Locked) as refused:
            store.drop("photos")
    assert str(refused.value) == (
        f"cannot delete 'photos' in {folder}: another process (or another open store in this "
        f"one) holds it; stop it or wait for it, or use a server, which many can share"
    )
    assert 2 < clock.now < 2.1
    assert log_of(folder).is_dir()


def test_an_older_version_waits_while_a_collection_is_held(folder: Path) -> None:
    log = log_of(folder)
    with engine.held(log.parent, "repair"), old_lock(log) as said:
        assert said == "refused"
    with old_lock(log) as said:
        assert said == "held"


def test_a_lock_leaves_its_file_as_it_is(folder: Path) -> None:
    path = folder / "catalogue.lock"
    path.write_bytes(b"somebody's note")
    path.chmod(0o660)  # shared with a group
    before = path.stat()
    with open_store(str(folder)) as store:
        store.set_alias("now", "photos")
    after = path.stat()
    assert path.read_bytes() == b"somebody's note"
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)


def test_a_lock_does_not_make_the_folder_of_a_store_anew(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "store")) as store:
        (tmp_path / "store").rename(tmp_path / "elsewhere")
        with pytest.raises(StoreError, match=r"cannot write to .*: No such file or directory"):
            store.set_alias("now", "photos")
    assert not (tmp_path / "store").exists()
