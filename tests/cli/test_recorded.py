"""Every command that works on a store leaves a run; a search also answers where it cannot."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import intramodal
from intramodal import files, open_store
from intramodal.commands.options import DEFAULT_RUNS, DEFAULT_STORE
from intramodal.runs.records import KINDS
from intramodal.store.base import VectorSpec
from tests.cli.kit import N, invoke, make_photos, run


@pytest.fixture
def ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> list[str]:
    monkeypatch.chdir(tmp_path)
    found, _, _ = make_photos(rng)
    return found


def shown(run_id: str, *more: str) -> dict[str, Any]:
    found: dict[str, Any] = run("runs", "show", run_id, *more)
    return found


def test_a_search_is_a_run_with_what_was_asked(ids: list[str]) -> None:
    found = run("search", "photos", "--id", ids[3], "-k", "5")
    stored = shown(found["run_id"])
    assert (stored["kind"], stored["status"]) == ("search", "COMPLETE")
    asked = {"collection": "photos", "point": ids[3], "k": "5"}
    assert asked.items() <= stored["parameters"].items()
    scores = {row["vector"]: (row["value"], row["n"]) for row in stored["metrics"]}
    assert scores == {v: (hits[0]["score"], 5) for v, hits in found["vectors"].items()}
    assert {row["kind"] for row in stored["fingerprints"]} == {"encoder", "projection"}


def test_an_export_is_a_run_with_what_was_written(ids: list[str]) -> None:
    found = run("export", "photos", "-o", "pca.npy", "--runs", "other.db")
    stored = shown(found["run_id"], "--runs", "other.db")
    assert (stored["kind"], stored["status"]) == ("export", "COMPLETE")
    figures = {row["name"]: row["value"] for row in stored["metrics"]}
    assert figures == {"rows": N, "points without the vector": 0}
    assert not Path(DEFAULT_RUNS).exists()


def test_an_export_that_fails_is_a_failed_run(ids: list[str]) -> None:
    Path("file").touch()
    run("export", "photos", "-o", "file/pca.npy", code=1)
    (row,) = run("runs", "list")["runs"]
    assert (row["kind"], row["status"]) == ("export", "FAILED")
    assert "file/pca.npy" in row["error"]


def test_an_adoption_is_a_run_with_the_model_that_was_declared(ids: list[str]) -> None:
    with open_store(DEFAULT_STORE) as store:
        store.create("shop", {"image": VectorSpec(4)})
    found = run("adopt", "shop", "--made-by", "clip", "--vector", "image")
    stored = shown(found["run_id"])
    assert (stored["kind"], stored["status"]) == ("adopt", "COMPLETE")
    (made_by,) = stored["fingerprints"]
    assert (made_by["kind"], made_by["facts"]) == ("encoder", {"vector": "image"})
    run("adopt", "photos", "--made-by", "another", "--vector", "pca", code=1)
    last, _ = run("runs", "list", "--kind", "adopt")["runs"]
    assert (last["status"], last["collection"]) == ("FAILED", "photos")


def test_a_search_answers_while_another_process_holds_the_runs_database(ids: list[str]) -> None:
    first = run("search", "photos", "--id", ids[0])
    with sqlite3.connect(DEFAULT_RUNS, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        found = run("search", "photos", "--id", ids[0])
        other.execute("ROLLBACK")
    assert found["run_id"] is None
    assert found["vectors"] == first["vectors"]


@pytest.mark.parametrize("damage", ["folder", "text", "unmakeable"])
def test_a_search_without_a_runs_database_that_can_be_used_answers(
    ids: list[str], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    place = {"folder": ".", "text": "text.db", "unmakeable": "text.db/runs.db"}[damage]
    Path("text.db").write_text("this is no database" * 100)
    result = invoke("search", "photos", "--id", ids[0], "--runs", place)
    assert result.exit_code == 0, result.output
    (warning,) = caplog.messages
    assert warning.startswith("not recorded: ")
    assert "rank" in result.stdout


def test_the_kinds_of_runs_are_those_that_commands_record() -> None:
    package = Path(intramodal.__file__).parent
    paths = [path for name in ("commands", "paper") for path in (package / name).rglob("*.py")]
    code = "".join(path.read_text(encoding="utf-8") for path in paths)
    calls = r"\b(?:recorded|recorded_if_possible|ledger\.run)\(\s*(?:[\w.]+,\s*)?"
    calls = rf'(?:{calls}|\bKIND = )"([a-z-]+)"'
    assert tuple(sorted(set(re.findall(calls, code)))) == KINDS
    assert invoke("runs", "list", "--help").stdout.count("evaluate-") == 8


def test_looking_for_runs_where_there_are_none_makes_no_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (("list",), ("show", "x"), ("compare", "x", "y"), ("prune", "--keep", "1")):
        error = run("runs", *command, code=1)["error"]
        assert "there is no runs database" in error["message"]
    assert not list(tmp_path.iterdir())


REPORTS = {
    "compare": ("compare", "photos", "--labels", "kind", "--no-controls"),
    "unlabelled": ("compare", "photos"),
    "misalignment": ("evaluate", "misalignment", "photos", "--labels", "kind"),
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_page_in_no_folder_is_refused_before_the_work(ids: list[str], name: str) -> None:
    found = run(*REPORTS[name], "-o", "nowhere/page.html", code=1)
    assert "there is no folder nowhere" in found["error"]["message"]
    assert not Path(DEFAULT_RUNS).exists() or not run("runs", "list")["runs"]


@pytest.mark.parametrize("name", REPORTS)
def test_a_page_that_cannot_be_written_loses_no_figures(
    ids: list[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    Path(".taken.part").mkdir()
    with monkeypatch.context() as patched:  # as a full disk: found out when the page is written
        patched.setattr(files, "token_hex", lambda n: "taken")
        message = run(*REPORTS[name], "-o", "page.html", code=1)["error"]["message"]
    said = re.search(r"the figures are recorded, see `intramodal (.*) (\S+)`", message)
    assert said, message
    look, run_id = said.groups()
    assert shown(run_id)["metrics"]
    if look == "report":
        assert run("report", run_id, "-o", "again.html")["run_id"] == run_id
        assert shown(run_id)["status"] == "COMPLETE"
