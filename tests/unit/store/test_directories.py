"""Directories of other programs are told apart, named with the way, and never written to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from intramodal.errors import InputError
from intramodal.store.base import VectorSpec
from intramodal.store.directories import check_outside, recognize
from intramodal.store.open import open_store
from tests.foreign_directories import (
    FOREIGN,
    contents,
    make_server,
)

WAYS = {
    "local mode": "intramodal import-local {}",
    "shard": "intramodal adopt --shard {} NAME",
    "server": "start a server on it",
    "files": "give a new or an empty directory",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_directory_is_named_with_the_way_and_left_as_it_is(
    tmp_path: Path, kind: str
) -> None:
    place = tmp_path / "some place"
    FOREIGN[kind](place)
    before = contents(place)
    with pytest.raises(InputError) as refused:
        open_store(str(place))
    assert WAYS[kind].format(f"'{place}'") in str(refused.value)
    assert contents(place) == before


@pytest.mark.parametrize("kind", ["local mode", "shard", "server"])
def test_nothing_is_made_inside_of_a_foreign_directory(tmp_path: Path, kind: str) -> None:
    FOREIGN[kind](tmp_path / "theirs")
    before = contents(tmp_path)
    with pytest.raises(InputError, match="give a place outside of it"):
        open_store(str(tmp_path / "theirs" / ".intramodal" / "store"))
    with pytest.raises(InputError, match="give a place outside of it"):
        check_outside(tmp_path / "theirs" / "runs.db", "the runs database")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("part", ["collections/shop", "collections/shop/0"])
def test_a_part_of_a_servers_storage_is_recognised(tmp_path: Path, part: str) -> None:
    make_server(tmp_path / "storage")
    found = recognize(tmp_path / "storage" / part)
    assert found is not None
    assert found.kind == "server"


def test_a_folder_of_one_collection_names_its_store(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "ours")) as store:
        store.create("shop", {"raw": VectorSpec(4)})
    (folder,) = (path for path in (tmp_path / "ours").iterdir() if path.is_dir())
    with pytest.raises(InputError, match=f"give the store itself: {tmp_path / 'ours'}"):
        open_store(str(folder))


def test_what_a_new_directory_may_hold_keeps_no_store_from_being_made(tmp_path: Path) -> None:
    for name in (".DS_Store", "intramodal.toml", "runs.db", "runs.db-wal"):
        (tmp_path / name).touch()
    (tmp_path / "lost+found").mkdir()
    with open_store(str(tmp_path)) as store:
        store.create("shop", {"raw": VectorSpec(4)})
    (tmp_path / "notes.txt").touch()
    with open_store(str(tmp_path)) as store:  # ours stays ours, whatever is put there
        assert store.collections() == ["shop"]


def test_a_folder_with_a_meta_file_of_another_form_is_no_local_mode(tmp_path: Path) -> None:
    for text in ("[]", "{}", '{"collections": []}', "[" * 100_000, "\0"):
        (tmp_path / "meta.json").write_text(text)
        found = recognize(tmp_path)
        assert found is not None
        assert found.kind == "files"


def test_a_directory_that_cannot_be_listed_is_said(tmp_path: Path) -> None:
    if os.name != "posix" or os.geteuid() == 0:
        pytest.skip("needs a user whom the file system can refuse")
    tmp_path.chmod(0)
    try:
        with pytest.raises(Exception, match="cannot look into"):
            recognize(tmp_path)
    finally:
        tmp_path.chmod(0o700)
