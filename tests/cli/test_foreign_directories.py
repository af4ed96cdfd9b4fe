"""Commands in and on directories of other programs: a sentence with the way, and no file of ours.

Issue 20, F15.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from intramodal import Projection, open_store
from tests.cli.kit import cells_of, invoke, run
from tests.foreign_directories import (
    FOREIGN,
    N,
    contents,
    make_local_mode,
    make_photos,
    make_shard,
)

WAYS = {
    "local mode": "intramodal import-local theirs",
    "shard": "intramodal adopt --shard theirs NAME",
    "server": "start a server on it and give its address",
    "files": "give a new or an empty directory",
}
COMMANDS = {
    "adopt": ("adopt", "products", "--made-by", "m"),
    "backfill": ("backfill", "products", "--projection", "p.st"),
    "plan": ("backfill", "products", "--projection", "p.st", "--dry-run"),
    "evaluate": (
        "evaluate",
        "retrieval",
        "products",
        "--vectors",
        "image",
        "--labels",
        "category",
    ),
    "ingest": ("ingest", "X.npy", "--collection", "products", "--made-by", "m"),
    "search": ("search", "products", "--id", "1"),
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    Projection(np.eye(4, 2, dtype=np.float32), "pca", "m", "declared:m").save("p.st")
    np.save("X.npy", np.eye(4, dtype=np.float32))
    return tmp_path / "work"


@pytest.mark.parametrize("kind", FOREIGN)
def test_no_command_writes_to_a_foreign_directory(here: Path, kind: str) -> None:
    FOREIGN[kind](here / "theirs")
    before = contents(here / "theirs")
    for command in COMMANDS.values():
        found = run(*command, "--store", "theirs", "--runs", "theirs/runs.db", code=1)
        assert WAYS[kind] in found["error"]["message"]
    doctor = ("doctor", "--store", "theirs", "--runs", "theirs/runs.db")
    checks = {check["name"]: check for check in run(*doctor, code=1)["checks"]}
    runs, store = checks["runs"], checks["store"]
    assert (runs["state"] == "problem") == (kind != "files"), runs
    assert (store["state"], WAYS[kind] in store["remedy"]) == ("problem", True)
    assert contents(here / "theirs") == before


@pytest.mark.parametrize("kind", ["local mode", "shard", "server"])
def test_the_default_places_are_not_made_in_a_foreign_directory(
    here: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    FOREIGN[kind](here / "theirs")
    before = contents(here / "theirs")
    monkeypatch.chdir(here / "theirs")
    ingest = ("ingest", str(here / "X.npy"), "--collection", "products", "--made-by", "m")
    assert "outside of it" in run(*ingest, code=1)["error"]["message"]
    elsewhere = ("--store", str(here / "ours"))
    found = run(*ingest, *elsewhere, code=1)
    assert "the runs database .intramodal/runs.db would lie in" in found["error"]["message"]
    fit = (
        "fit",
        "--text-vectors",
        str(here / "X.npy"),
        "--made-by",
        "m",
        "-o",
        str(here / "o.safetensors"),
    )
    assert "the runs database" in run(*fit, code=1)["error"]["message"]
    assert contents(here / "theirs") == before


def test_local_mode_is_imported_and_the_repeat_writes_nothing(here: Path) -> None:
    make_local_mode(here / "theirs")
    before = contents(here / "theirs")
    plan = run("import-local", "theirs", "--dry-run")
    assert [(one["collection"], one["points"]) for one in plan["collections"]] == [
        ("plain", N),
        ("products", N),
    ]
    assert not (here / ".intramodal").exists()
    done = run("import-local", "theirs")
    assert (done["written"], done["failed"]) == (2 * N, 0)
    again = invoke("import-local", "theirs", "--collection", "products")
    assert again.exit_code == 0
    *_, row, made = again.stdout.splitlines()
    assert cells_of(row) == ["products", "0", f"{N}", "0"]
    assert made == "collection: products (store: ./.intramodal/store)"
    assert contents(here / "theirs") == before
    with open_store(".intramodal/store") as store:
        assert store.count("products") == store.count("plain") == N
    kinds = {one["kind"]: one["status"] for one in run("runs", "list")["runs"]}
    assert kinds == {"import-local": "COMPLETE"}


def test_a_shard_is_adopted_by_the_command_that_the_sentence_names(here: Path) -> None:
    make_shard(here / "theirs")
    before = contents(here / "theirs")
    plan = run("adopt", "--shard", "theirs", "shop", "--dry-run")
    assert (plan["collection"], list(plan["vectors"])) == ("shop", ["image"])
    assert not (here / ".intramodal").exists()
    done = run("adopt", "--shard", "theirs", "shop")
    assert (done["points"], done["adopted"]) == (N, None)
    declared = run("adopt", "--shard", "theirs", "declared", "--made-by", "a model")
    assert declared["adopted"]["made_by"] == "a model"
    assert (
        "give another name"
        in run("adopt", "--shard", "theirs", "shop", code=1)["error"]["message"]
    )
    assert contents(here / "theirs") == before
    moved = invoke("adopt", "--shard", "theirs", "moved", "--move")
    assert f"theirs moved -> moved: {N} points, vectors image" in moved.stdout
    assert not (here / "theirs").exists()
    with open_store(".intramodal/store") as store:
        assert store.collections() == ["declared", "moved", "shop"]
    kinds = [one["kind"] for one in run("runs", "list")["runs"]]
    assert kinds == ["adopt"] * 4


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("shop",), "Missing option '--made-by'"),
        (("shop", "--made-by", "m", "--move"), "--move is for --shard only"),
        (("shop", "--made-by", "m", "--dry-run"), "--dry-run is for --shard only"),
        (("shop", "--shard", "theirs", "--pictures", "."), "--pictures needs --made-by"),
    ],
)
def test_options_of_adopt_that_do_not_belong_together_are_refused(
    arguments: tuple[str, ...], says: str
) -> None:
    assert says in run("adopt", *arguments, code=2)["error"]["message"]


def test_a_wrong_folder_is_said_and_makes_no_store(here: Path) -> None:
    make_photos(here / "photos")
    for place in ("photos", "nowhere"):
        found = run("import-local", place, code=1)
        assert "local mode" in found["error"]["message"]
    assert not (here / ".intramodal").exists()


def test_an_import_of_which_nothing_could_be_read_fails(here: Path) -> None:
    import sqlite3

    make_local_mode(here / "theirs")
    with sqlite3.connect("theirs/collection/plain/storage.sqlite") as database:
        database.execute("UPDATE points SET point = x'2e'")
    database.close()
    result = invoke("import-local", "theirs", "--collection", "plain")
    assert result.exit_code == 1
    assert "plain/row 8: it is no readable point" in result.stderr
