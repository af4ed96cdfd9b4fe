"""A shard of another program on its way into a store: whole, or as if nothing had happened.

Issue 20, F15.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from intramodal import ImageCollection, adopt_shard, open_store, plan_shard
from intramodal.errors import (
    Conflict,
    InputError,
    Locked,
    ManifestMismatchError,
    StoreError,
    Unsupported,
)
from intramodal.store.base import VectorSpec
from tests.foreign_directories import N, contents, make_shard

edge = pytest.importorskip("qdrant_edge")


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    make_shard(tmp_path / "shard")
    return tmp_path / "shard"


@pytest.fixture
def place(tmp_path: Path) -> str:
    return str(tmp_path / "ours")


def data(folder: Path) -> Mapping[str, Any]:
    """Return the bytes of every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def names_in(place: str) -> set[str]:
    return {path.name for path in Path(place).iterdir()}


def check_whole(place: str, name: str = "shop") -> None:
    with open_store(place) as store:
        shop = ImageCollection.open(store, name)
        assert shop.vectors == {"image": VectorSpec(4)}
        assert shop.described.indexes == {"category": "keyword"}
        (page,) = shop.scroll(vectors=["image"], payload=True)
    assert page.ids == list(range(N))
    assert page.payloads == [{"category": "ab"[i % 2]} for i in range(N)]


def check_nothing_left(place: str) -> None:
    with open_store(place) as store:
        assert store.collections() == []
        assert store.problems() == {}
    assert names_in(place) <= {"ballast", "catalogue.json", "catalogue.lock"}


def test_a_shard_is_copied_with_its_indexes_and_stays_as_it_is(shard: Path, place: str) -> None:
    before = contents(shard)
    with open_store(place) as store:
        plan = plan_shard(shard, store, collection="shop")
        found = adopt_shard(shard, store, collection="shop", made_by="a model")
    assert contents(shard) == before  # an opened shard would have new times
    assert (found.points, found.vectors, found.is_moved) == (N, ["image"], False)
    assert found.adopted is not None
    assert found.adopted.made_by == "a model"
    assert plan.vectors["image"]["size"] == 4
    check_whole(place)
    on_disk = sum(p.lstat().st_blocks for p in Path(place).rglob("*")) * 512
    assert on_disk < 20 * plan.bytes < sum(p.stat().st_size for p in shard.rglob("*"))  # holes


def test_a_shard_is_moved_and_is_gone_from_its_place(shard: Path, place: str) -> None:
    with open_store(place) as store:
        assert adopt_shard(shard, store, collection="shop", move=True).is_moved
    assert not shard.exists()
    check_whole(place)
    with open_store(place) as store:
        store.drop("shop")
    check_nothing_left(place)


@pytest.mark.parametrize("move", [False, True], ids=["copy", "move"])
def test_a_shard_that_is_open_is_refused(shard: Path, place: str, move: bool) -> None:
    opened = edge.EdgeShard.load(str(shard))
    with open_store(place) as store, pytest.raises(Locked, match="close it there first"):
        adopt_shard(shard, store, collection="shop", move=move)
    opened.close()
    check_nothing_left(place)
    assert shard.is_dir()


STRANGERS: dict[str, Callable[[Path], Any]] = {
    "a link to a file": lambda shard: (shard / "segments" / "x").symlink_to("/etc/passwd"),
    "a link to a folder": lambda shard: (shard / "wal" / "x").symlink_to("/etc"),
    "a pipe": lambda shard: os.mkfifo(shard / "pipe"),
}


@pytest.mark.parametrize("kind", STRANGERS)
@pytest.mark.parametrize("move", [False, True], ids=["copy", "move"])
def test_what_is_no_file_is_refused_and_not_followed(
    shard: Path, place: str, kind: str, move: bool
) -> None:
    STRANGERS[kind](shard)
    with open_store(place) as store, pytest.raises(InputError, match="a shard holds files only"):
        adopt_shard(shard, store, collection="shop", move=move)
    check_nothing_left(place)


DAMAGED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "newer": (
        lambda shard: write(shard, "segments/*/version.info", "9.9.9"),
        r"is of format 9\.9\.9, and the engine here .* knows formats up to",
    ),
    "no version": (
        lambda shard: write(shard, "segments/*/version.info", "soon"),
        "does not say a version",
    ),
    "older": (lambda shard: write(shard, "segments/*/version.info", "0.1.0"), "not compatible"),
    "no config": (lambda shard: write(shard, "edge_config.json", "{"), "is no JSON"),
    "other config": (
        lambda shard: write(shard, "edge_config.json", "[]"),
        "cannot read the shard",
    ),
    "no segment": (lambda shard: write(shard, "segments/*/segment.json", None), "not a whole"),
    "half a segment": (
        lambda shard: write(shard, "segments/*/segment.json", "{}"),
        "cannot open the shard",
    ),
}


def write(folder: Path, pattern: str, text: str | None) -> None:
    (path,) = folder.glob(pattern)
    path.unlink() if text is None else path.write_text(text)


@pytest.mark.parametrize("kind", DAMAGED)
@pytest.mark.parametrize("move", [False, True], ids=["copy", "move"])
def test_a_shard_that_cannot_be_opened_is_said_and_stays_where_it_is(
    shard: Path, place: str, kind: str, move: bool
) -> None:
    damage, says = DAMAGED[kind]
    damage(shard)
    before = data(shard)
    with open_store(place) as store, pytest.raises((InputError, StoreError), match=says):
        adopt_shard(shard, store, collection="shop", move=move)
    assert data(shard) == before
    check_nothing_left(place)


def test_a_name_that_is_taken_and_another_store_are_refused(shard: Path, place: str) -> None:
    with open_store(place) as store:
        store.create("shop", {"raw": VectorSpec(2)})
        store.set_alias("live", "shop")
        for name in ("shop", "live"):
            with pytest.raises(Conflict, match="give another name"):
                adopt_shard(shard, store, collection=name)
            with pytest.raises(Conflict, match="give another name"):
                store.take_shard(name, shard)
            with pytest.raises(Conflict, match="give another name"):
                plan_shard(shard, store, collection=name)
        (folder,) = (path for path in Path(place).iterdir() if path.is_dir())
        with pytest.raises(InputError, match="the folder of one collection of a store"):
            adopt_shard(folder, store, collection="other")
    with open_store(":memory:") as memory, pytest.raises(Unsupported, match="no embedded store"):
        adopt_shard(shard, memory, collection="shop")


def test_a_model_that_cannot_have_made_it_is_refused_before_the_copy(
    shard: Path, place: str
) -> None:
    with open_store(place) as store:
        with pytest.raises(ManifestMismatchError, match="512 dimensions"):
            adopt_shard(shard, store, collection="shop", made_by="open_clip:ViT-B-32:openai")
        with pytest.raises(StoreError, match="has no vector 'raw'; it has 'image'"):
            adopt_shard(shard, store, collection="shop", made_by="m", vector="raw")
    check_nothing_left(place)


def test_a_link_to_a_shard_is_refused(shard: Path, place: str) -> None:
    (shard.parent / "link").symlink_to(shard)
    with open_store(place) as store, pytest.raises(InputError, match="give the folder itself"):
        adopt_shard(shard.parent / "link", store, collection="shop", move=True)


def test_space_is_asked_for_before_the_copy(
    shard: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from intramodal.store.edge import arrival

    class Full:
        free = 10_000

    monkeypatch.setattr(arrival.shutil, "disk_usage", lambda path: Full)
    with open_store(place) as store, pytest.raises(StoreError, match="free some space"):
        adopt_shard(shard, store, collection="shop")
    check_nothing_left(place)


def test_a_disk_that_fills_up_during_the_copy_is_said_and_nothing_is_left(
    shard: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from intramodal.store.edge import arrival

    def full(*paths: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(arrival, "_copy_file", full)
    with open_store(place) as store, pytest.raises(StoreError, match="No space left on device"):
        adopt_shard(shard, store, collection="shop")
    check_nothing_left(place)


SCRIPT = """
import os, sys, time
from pathlib import Path
from intramodal import adopt_shard, open_store
from intramodal.store.edge import arrival
from intramodal.store.edge.catalogue import Catalogue

place, shard, moves, stage = sys.argv[1:]
with open_store(place) as store:
    def die(*arguments):
        os._exit(9)
    def wait(*arguments):
        print("copying", flush=True)
        time.sleep(60)
    calls = []
    copy = arrival._copy_file
    def half(*paths):
        calls.append(paths)
        die() if len(calls) == 6 else copy(*paths)
    owner, name, call = {
        "waiting": (arrival, "_copy_folder", die),
        "half": (arrival, "_copy_file", half),
        "there": (arrival, "_opened", die),
        "renamed": (Catalogue, "save", die),
        "alive": (arrival, "_copy_folder", wait),
    }[stage]
    setattr(owner, name, call)
    adopt_shard(Path(shard), store, collection="shop", move=moves == "move")
"""


@pytest.mark.parametrize(
    ("moves", "stage"),
    [
        *(("copy", stage) for stage in ("waiting", "half", "there", "renamed")),
        *(("move", stage) for stage in ("there", "renamed")),
    ],
)
def test_killed_at_any_step_all_is_as_before_and_the_same_call_does_it(
    shard: Path, place: str, moves: str, stage: str
) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, place, str(shard), moves, stage])
    assert done.returncode == 9
    assert any(name.endswith(".arriving") for name in names_in(place))
    check_nothing_left(place)
    assert shard.is_dir()
    with open_store(place) as store:
        assert adopt_shard(shard, store, collection="shop", move=moves == "move").points == N
    check_whole(place)


def test_a_copy_that_is_under_way_is_left_alone(shard: Path, place: str) -> None:
    command = [sys.executable, "-c", SCRIPT, place, str(shard), "copy", "alive"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"copying\n"
        started = time.monotonic()
        with open_store(place) as store:
            store.create("other", {"raw": VectorSpec(2)})  # others can work meanwhile
        assert time.monotonic() - started < 10  # the deadline for the catalogue's lock
        assert any(name.endswith(".arriving") for name in names_in(place))
        child.kill()
    with open_store(place) as store:
        assert store.collections() == ["other"]
        assert not any(name.endswith(".arriving") for name in names_in(place))


def test_a_moved_shard_whose_place_is_taken_again_is_kept(
    shard: Path, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    subprocess.run([sys.executable, "-c", SCRIPT, place, str(shard), "move", "there"])
    shard.mkdir()
    with open_store(place) as store:
        assert store.collections() == []
    assert "cannot go back" in caplog.text
    (left,) = Path(place).glob(".*.arriving")
    assert (left / "shard" / "edge_config.json").is_file()
    shard.rmdir()
    check_nothing_left(place)
    assert (shard / "edge_config.json").is_file()
