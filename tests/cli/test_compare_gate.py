"""`intramodal compare` as a gate: exit codes, the JUnit file, and an earlier run as baseline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal import files, open_store
from intramodal.commands.options import DEFAULT_STORE
from intramodal.types import Floats
from tests.cli.kit import invoke, make_photos, run

junitparser = pytest.importorskip(
    "junitparser", reason="the JUnit file is read with junitparser, in intramodal[dev]"
)

COMPARE = ("compare", "photos", "--task", "retrieval", "--no-controls", "--labels")
FAILED = 3


@pytest.fixture
def photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> tuple[list[str], Floats]:
    """Return ids and vectors of a collection: `pca` keeps the kind and has lost the season."""
    monkeypatch.chdir(tmp_path)
    ids, raw, _ = make_photos(rng)
    return ids, raw


def test_a_field_that_fails_ends_the_command_with_3_once_all_is_written(photos: Any) -> None:
    files = ("--junit", "compare.xml", "-o", "report.html")
    result = invoke(*COMPARE, "kind,season", "--fail-on", "worse", *files)
    assert result.exit_code == FAILED
    assert "season: Keep raw" in result.stdout
    assert result.stderr.splitlines()[-1] == "Gate failed (worse): season is worse."
    (stored,) = run("runs", "list")["runs"]
    assert (stored["kind"], stored["status"]) == ("compare", "COMPLETE")
    assert "<html" in Path("report.html").read_text(encoding="utf-8")
    (suite,) = junitparser.JUnitXml.fromfile("compare.xml")
    assert {case.name: case.is_passed for case in suite} == {"kind": True, "season": False}


def test_a_gate_that_is_passed_ends_with_0_and_says_so(photos: Any) -> None:
    result = invoke(*COMPARE, "kind", "--fail-on", "not-better")
    assert result.exit_code == 0
    assert result.stderr.splitlines()[-1] == "Gate passed (not-better): kind."


def test_json_holds_the_gate_beside_the_comparison(photos: Any) -> None:
    found = run(*COMPARE, "kind,season", "--fail-on", "not-better", code=FAILED)
    outcomes = {name: row["verdict"] for name, row in found["fields"].items()}
    assert outcomes == {"kind": "better", "season": "worse"}
    assert found["gate"]["failed"] == {"season": "worse"}
    assert "gate" not in run(*COMPARE, "kind,season")


def test_the_sentence_is_the_message_of_the_test_case(photos: Any) -> None:
    found = run(*COMPARE, "season", "--fail-on", "worse", "--junit", "c.xml", code=FAILED)
    (suite,) = junitparser.JUnitXml.fromfile("c.xml")
    (case,) = suite
    (failure,) = case.result
    sentence = found["fields"]["season"]["sentence"]
    assert (failure.type, failure.message) == ("worse", sentence)
    assert {p.name: p.value for p in suite.properties()}["run"] == found["run_id"]


def test_a_baseline_names_what_changed_and_a_lost_adoption_fails(photos: Any) -> None:
    earlier = run(*COMPARE, "kind,season")["run_id"]
    ids, raw = photos
    with open_store(DEFAULT_STORE) as store:  # now the other half of the vector is kept
        store.update_vectors("photos", "pca", ids, raw[:, 8:].copy())
    # A worse field is settled; it fails because it was better.
    asked = (*COMPARE, "season,kind", "--baseline", earlier[:18], "--fail-on", "not-settled")
    found = run(*asked, code=FAILED)
    assert found["baseline"]["run_id"] == earlier
    changed = {"season": ["worse", "better"], "kind": ["better", "worse"]}
    assert found["baseline"]["changed"] == changed
    assert found["gate"]["failed"] == {"kind": f"worse (was better in run {earlier})"}
    shown = invoke(*COMPARE, "kind", "--baseline", earlier)
    assert shown.exit_code == 0  # without a rule it only reports
    assert "kind changed from better to worse; only in that run: season." in shown.stdout


def test_an_empty_variable_is_no_baseline(photos: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """CI servers set a variable that has no value to an empty text."""
    monkeypatch.setenv("INTRAMODAL_COMPARE_BASELINE", "")
    assert "baseline" not in run(*COMPARE, "kind")
    monkeypatch.setenv("INTRAMODAL_COMPARE_BASELINE", "nothing")
    assert "no run 'nothing'" in run(*COMPARE, "kind", code=1)["error"]["message"]


def test_a_baseline_of_something_else_is_refused_before_the_work(photos: Any) -> None:
    earlier = run(*COMPARE, "kind")["run_id"]
    turned = ("--vectors", "pca,raw", "--baseline", earlier)
    refused = run(*COMPARE, "kind", *turned, code=1)["error"]["message"]
    assert f"run {earlier} compared 'raw' and 'pca' in 'photos'" in refused
    exported = run("export", "photos", "-o", "pca.npy")
    unlike = run(*COMPARE, "kind", "--baseline", exported["run_id"], code=1)["error"]["message"]
    assert "export run" in unlike
    assert "choose a complete run of `intramodal compare`" in unlike
    assert [row["kind"] for row in run("runs", "list")["runs"]] == ["export", "compare"]


@pytest.mark.parametrize(
    "option", [("--fail-on", "worse"), ("--junit", "c.xml"), ("--baseline", "2026")]
)
def test_without_labels_there_is_no_gate(photos: Any, option: tuple[str, str]) -> None:
    result = invoke("compare", "photos", *option)
    assert result.exit_code == 2
    assert f"{option[0]} has a meaning with --labels only" in result.stderr


def test_an_error_stays_exit_code_1_and_wrong_usage_2(
    photos: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invoke(*COMPARE, "colour", "--fail-on", "worse").exit_code == 1
    assert invoke(*COMPARE, "kind", "--fail-on", "better").exit_code == 2
    refused = run(*COMPARE, "kind", "--junit", "nowhere/c.xml", code=1)["error"]["message"]
    assert "no folder nowhere for c.xml" in refused
    monkeypatch.setattr(files, "token_hex", lambda n: "taken")
    Path(".taken.part").mkdir()
    kept = invoke(*COMPARE, "kind", "--junit", "folder.xml", "--json")
    assert kept.exit_code == 1
    assert "the figures are recorded" in json.loads(kept.stdout)["error"]["message"]
