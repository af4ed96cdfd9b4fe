"""`intramodal doctor`: what is wrong, and what to do about it, without touching anything."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core.errors import NumbaError

from intramodal.commands.options import DEFAULT_RUNS, DEFAULT_STORE
from intramodal.runs.ledger import RunLedger
from intramodal.runs.schema import SCHEMA, VERSION_TABLE
from intramodal.store.base import VectorSpec
from intramodal.store.open import open_store
from tests.cli.kit import invoke, make_photos, run


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    return tmp_path


def examined(*arguments: str, code: int = 0) -> dict[str, dict[str, Any]]:
    found = run("doctor", *arguments, code=code)
    assert (found["state"] == "problem") == (code == 1)
    return {row["name"]: row for row in found["checks"]}


def test_an_empty_folder_is_well_and_stays_empty(in_tmp: Path) -> None:
    found = examined()
    assert list(found) == ["python", "torch", "numba", "store", "runs", "models", "hub", "disk"]
    assert {found[name]["state"] for name in ("python", "numba", "store", "runs")} == {"ok"}
    assert "the first ingest makes it" in found["store"]["detail"]
    assert "the first run makes it" in found["runs"]["detail"]
    assert list(in_tmp.iterdir()) == []


def test_what_is_there_is_described(rng: np.random.Generator, in_tmp: Path) -> None:
    make_photos(rng)
    with RunLedger.open(DEFAULT_RUNS) as ledger, ledger.run("fit"):
        pass
    blob = in_tmp / "hf/hub/blobs/abc"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(bytes(160_000_000))
    found = examined()
    assert "1 collections" in found["store"]["detail"]
    assert f"schema {SCHEMA} is up to date, 1 runs" in found["runs"]["detail"]
    assert found["models"]["detail"].startswith("0.2 GB in")


def test_every_line_has_a_state_and_a_remedy_where_it_is_not_ok() -> None:
    shown = invoke("doctor", "--store", "http://127.0.0.1:1")
    assert shown.exit_code == 1
    assert "problem  store" in shown.stdout
    assert "-> " in shown.stdout
    found = examined("--store", "http://127.0.0.1:1", code=1)
    assert all(bool(row["remedy"]) == (row["state"] != "ok") for row in found.values())
    assert found["runs"]["state"] == "ok"  # the others are examined all the same


@pytest.mark.parametrize(
    ("revision", "state", "words"),
    [("0000", "problem", "newer than this version"), (None, "problem", "not intramodal's")],
)
def test_a_database_that_cannot_be_used_is_a_problem_and_stays_as_it_is(
    revision: str | None, state: str, words: str
) -> None:
    with sqlite3.connect("runs.db") as database:
        database.execute("CREATE TABLE runs (id TEXT)")
        if revision:
            database.execute(f"CREATE TABLE {VERSION_TABLE} (version_num TEXT)")
            database.execute(f"INSERT INTO {VERSION_TABLE} VALUES ('{revision}')")
    database.close()
    before = Path("runs.db").read_bytes()
    found = examined("--runs", "runs.db", code=1)["runs"]
    assert (found["state"], words in found["detail"]) == (state, True)
    assert Path("runs.db").read_bytes() == before


def test_a_file_that_is_no_database_is_a_problem() -> None:
    Path("runs.db").write_text("once upon a time " * 100)
    found = examined("--runs", "runs.db", code=1)["runs"]
    assert "is not a SQLite database" in found["detail"]
    assert found["remedy"] == "give another file"


def test_no_torch_is_a_warning_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The import system itself is told that there is none, as in the base install."""
    monkeypatch.setitem(sys.modules, "torch", None)
    find = __import__("importlib").util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "torch" else find(name)
    )
    found = examined()["torch"]
    assert found["state"] == "warning"
    assert "pip install 'intramodal[encoders]'" in found["remedy"]


def test_a_hub_that_cannot_be_reached_is_a_warning_and_no_problem() -> None:
    pytest.importorskip("torch")
    found = examined()["hub"]
    assert found["state"] == "warning"
    assert found["detail"].startswith("127.0.0.1 cannot be reached (")
    assert "not downloaded yet cannot be loaded" in found["detail"]
    assert "local-dir:PATH" in found["remedy"]


def test_a_hub_that_can_be_reached_is_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert examined()["hub"]["state"] == "ok"


def test_nobody_asks_for_the_hub_where_it_is_switched_off_or_no_model_can_be_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "hub" not in examined()
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "hub" not in examined()


def test_the_kernels_of_the_package_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    detail = examined()["numba"]["detail"]
    assert "the kernels work" in detail
    assert "kept in" in detail
    monkeypatch.setattr("intramodal.evaluation.kernels.trial._ranks", lambda: False)
    found = examined(code=1)["numba"]
    assert (found["state"], "wrong results of rank_block" in found["detail"]) == ("problem", True)


def test_kernels_that_are_kept_nowhere_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    from intramodal.evaluation.kernels import trial

    found = replace(trial.try_kernels(), cache=None)
    monkeypatch.setattr(trial, "try_kernels", lambda: found)
    shown = examined()["numba"]
    assert (shown["state"], "compiles them anew" in shown["detail"]) == ("warning", True)
    assert "NUMBA_CACHE_DIR" in shown["remedy"]


def test_a_compiler_that_fails_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise NumbaError("no linker")

    monkeypatch.setattr("intramodal.evaluation.kernels.trial._ranks", fail)
    found = examined(code=1)["numba"]
    assert (found["state"], "NumbaError: no linker" in found["detail"]) == ("problem", True)


def test_little_space_is_a_warning_and_none_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    for free, code, state in ((10**9, 0, "warning"), (10**6, 1, "problem")):
        usage = type("usage", (), {"free": free})
        monkeypatch.setattr("shutil.disk_usage", lambda path, usage=usage: usage)
        assert examined(code=code)["disk"]["state"] == state


def test_the_store_of_a_server_has_no_folder_to_watch() -> None:
    found = examined("--store", ":memory:")
    assert "memory" in found["store"]["detail"]
    assert found["disk"]["detail"].endswith(str(Path.cwd()))


def test_a_place_that_cannot_be_written_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a file").write_text("")
    found = examined("--store", "a file/store", code=1)["store"]
    assert "a file is not a folder" in found["detail"]
    # The system's answer for a user without rights; the tests may run as root, who has all.
    monkeypatch.setattr("os.access", lambda path, mode: False)
    found = examined(code=1)
    assert "is not writable" in found["store"]["detail"]
    assert found["store"]["remedy"] == "give another --store"
    assert found["models"]["state"] == "warning"


# Collections that cannot be opened


def make_shop() -> Path:
    """Make a store with two collections; returns the folder of the first."""
    with open_store(DEFAULT_STORE) as store:
        for name in ("shop", "other"):
            store.create(name, {"raw": VectorSpec(2)})
            store.upsert(name, [1, 2], {"raw": np.ones((2, 2), np.float32)}, [{}, {}])
    contents = json.loads((Path(DEFAULT_STORE) / "catalogue.json").read_text())
    return Path(DEFAULT_STORE) / contents["collections"]["shop"]["folder"]


def damage_log(folder: Path) -> None:
    """Write what the engine takes, logs, and cannot read back."""
    edge = pytest.importorskip("qdrant_edge", reason="no wheel of qdrant-edge-py")
    shard = edge.EdgeShard.load(str(folder))
    deep: Any = 1
    for _ in range(126):
        deep = [deep]
    row = np.ones(2, np.float32)
    for point in (3, 4):
        shard.update(
            edge.UpdateOperation.upsert_points([edge.Point(point, {"raw": row}, {"p": deep})])
        )
    shard.close()


def problems(*arguments: str, code: int = 1) -> list[str]:
    rows = run("doctor", *arguments, code=code)["checks"]
    return [row["detail"] for row in rows if row["state"] == "problem"]


def test_a_collection_that_cannot_be_opened_is_named_and_repaired() -> None:
    damage_log(make_shop())
    (told,) = problems()
    assert told.startswith("cannot open 'shop'")
    assert "the collection's log is damaged" in told
    shown = invoke("doctor")
    assert shown.exit_code == 1
    assert "-> intramodal doctor --repair does what is safe" in shown.stdout
    assert shown.stderr.endswith(" doctor --repair\n")  # a next: line
    done = run("doctor", "--repair")["checks"]
    (repaired,) = [row["detail"] for row in done if row["name"] == "repair"]
    assert "the log of 'shop' could not be read and lies in " in repaired
    assert "the collection opens with 4 points" in repaired
    with open_store(DEFAULT_STORE) as store:
        assert (store.count("shop"), store.count("other")) == (4, 2)
    assert problems(code=0) == []
    (nothing,) = [
        row["detail"] for row in run("doctor", "--repair")["checks"] if row["name"] == "repair"
    ]
    assert nothing == "nothing is to be repaired"


def test_a_collection_that_cannot_be_repaired_is_left_as_it_is() -> None:
    folder = make_shop()
    (folder / "edge_config.json").write_text("{")
    (told,) = problems()
    assert "cannot open 'shop'" in told
    rows = run("doctor", "--repair", code=1)["checks"]
    (kept,) = [row["detail"] for row in rows if row["name"] == "repair"]
    assert kept.startswith("'shop' is left as it is: ")
    assert (folder / "edge_config.json").read_text() == "{"


def test_folders_of_no_collection_are_deleted_only_if_they_hold_nothing() -> None:
    folder = make_shop()
    path = Path(DEFAULT_STORE) / "catalogue.json"
    contents = json.loads(path.read_text())
    with open_store(DEFAULT_STORE) as store:
        store.create("empty", {"raw": VectorSpec(2)})
    empty = set(Path(DEFAULT_STORE).glob("empty-*"))
    del contents["collections"]["shop"]
    path.write_text(json.dumps(contents))  # neither 'shop' nor 'empty' is known any more
    (Path(DEFAULT_STORE) / "notes").mkdir()
    assert len(problems()) == 2
    rows = run("doctor", "--repair", code=1)["checks"]
    deleted, kept = sorted(row["detail"] for row in rows if row["name"] == "repair")
    assert deleted.endswith("belonged to no collection and held no points: it is deleted")
    assert kept.endswith("belongs to no collection and holds 2 points: it is left as it is")
    assert not any(one.exists() for one in empty)
    assert folder.is_dir()
    assert (Path(DEFAULT_STORE) / "notes").is_dir()


def test_folders_that_are_not_ours_or_cannot_be_judged_are_never_deleted() -> None:
    folder = make_shop()
    store = Path(DEFAULT_STORE)
    (store / "coco/segments").mkdir(parents=True)
    (store / "coco/segments/000.png").write_bytes(b"mask")
    (store / "0/segments/a").mkdir(parents=True)  # as a server keeps a shard
    (store / "0/segments/a/segment.json").write_text("{}")
    (store / "masks-0123abcd/segments").mkdir(parents=True)
    (store / "masks-0123abcd/labels").mkdir()
    (store / "catalogue.json").unlink()
    (folder / "edge_config.json").unlink()  # it holds points, but cannot be opened as it is
    (logged,) = store.glob("other-*")
    shutil.rmtree(logged / "segments")  # its points are in the log
    before = sorted([*store.rglob("*.json"), *store.rglob("*.png"), *store.rglob("page_*.dat")])
    kept = [row["detail"] for row in run("doctor", "--repair", code=1)["checks"]][:2]
    assert len(kept) == 2
    assert all(one.endswith("may hold points: it is left as it is") for one in kept)
    assert all(path.is_file() for path in before)
    assert (store / "masks-0123abcd/labels").is_dir()
    assert (logged / "wal").is_dir()


def test_a_collection_that_another_process_has_open_is_no_problem() -> None:
    make_shop()
    with open_store(DEFAULT_STORE) as store:
        store.count("shop")
        assert problems(code=0) == []


def test_only_an_embedded_store_is_repaired() -> None:
    rows = run("doctor", "--store", ":memory:", "--repair", code=1)["checks"]
    assert "is no embedded store" in next(r["detail"] for r in rows if r["name"] == "repair")
