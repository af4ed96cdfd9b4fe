"""`intramodal runs`: look, compare, export, prune."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from intramodal.commands.options import DEFAULT_RUNS
from intramodal.runs.ledger import RunLedger
from intramodal.types import unit_rows
from tests.cli.kit import invoke, make_photos, run

pytestmark = pytest.mark.usefixtures("in_tmp")


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pair() -> tuple[str, str]:
    """Return two finished runs that differ in one parameter, one fingerprint and one figure."""
    ids = []
    with RunLedger.open(DEFAULT_RUNS) as ledger:
        for components, encoder, value in ((64, "ab", 0.25), (128, "cd", 0.75)):
            parameters = {"components": components, "collection": "photos"}
            with ledger.run("compare", parameters=parameters) as recorded:
                recorded.log_fingerprint("encoder", "demo", encoder)
                recorded.log_metric("mAP", value, vector="pca", field="kind")
                recorded.log_metric("same", 0.5)
            ids.append(recorded.id)
    return ids[0], ids[1]


def test_compare_names_what_differs_and_subtracts_every_figure(pair: tuple[str, str]) -> None:
    found = run("runs", "compare", *pair)
    assert (found["a"]["id"], found["b"]["id"]) == pair
    assert found["parameters"] == {"components": [64, 128]}
    assert found["packages"] == {}
    assert found["fingerprints"] == {"encoder demo": ["ab", "cd"]}
    assert {row["name"]: row["delta"] for row in found["metrics"]} == {"mAP": 0.5, "same": 0.0}


def test_the_compared_table_begins_with_what_differs(pair: tuple[str, str]) -> None:
    shown = invoke("runs", "compare", *pair).stdout
    places = [shown.index(word) for word in ("components", "encoder demo", "mAP", "+0.500")]
    assert places == sorted(places)


def test_a_run_compared_with_itself_does_not_differ(pair: tuple[str, str]) -> None:
    shown = invoke("runs", "compare", pair[0], pair[0]).stdout
    assert "same parameters, packages and fingerprints" in shown
    assert "+0.000" in shown


def test_all_runs_or_chosen_ones_are_exported_by_suffix_or_format(pair: tuple[str, str]) -> None:
    assert run("runs", "export", "-o", "runs.csv") == {"out": "runs.csv", "n_runs": 2}
    with Path("runs.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["run"] for row in rows} == set(pair)
    assert sorted(row["value"] for row in rows) == ["0.25", "0.5", "0.5", "0.75"]
    run("runs", "export", pair[1], "--format", "json", "-o", "one.txt")
    (only,) = json.loads(Path("one.txt").read_text(encoding="utf-8"))["runs"]
    assert only["id"] == pair[1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("-o", "runs.xlsx"), "does not end in .csv, .json, .parquet or .trec"),
        (("-o", "runs.jsn"), "give one as runs.json"),
        (("-o", "nowhere/runs.csv"), "name another file"),
        (("--format", "trec", "-o", "scores"), "has per-query scores"),
        (("2001", "-o", "runs.csv"), "did you mean"),
    ],
)
def test_an_export_that_cannot_be_says_what_can(
    pair: tuple[str, str], arguments: tuple[str, ...], sentence: str
) -> None:
    found = run("runs", "export", *arguments, code=1)
    assert sentence in found["error"]["message"]
    assert not list(Path.cwd().glob("*.part"))


def test_trec_export_agrees_with_trec_eval(rng: np.random.Generator) -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval")
    ids, raw, kinds = make_photos(rng)
    found = run("compare", "photos", "--labels", "kind", "--no-controls", "--task", "retrieval")
    run("runs", "export", found["run_id"], "--format", "trec", "-o", "scores")
    (file,) = Path("scores").glob("*.kind.raw.eval")
    lines = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()]
    ours = {(query, word.strip()): value for word, query, value in lines}

    S = unit_rows(raw) @ unit_rows(raw).T
    relevant = {
        q: {d: 1 for j, d in enumerate(ids) if j != i and kinds[j] == kinds[i]}
        for i, q in enumerate(ids)
    }
    rankings = {
        q: {d: float(S[i, j]) for j, d in enumerate(ids) if j != i} for i, q in enumerate(ids)
    }
    words = {"map", "recip_rank", "Rprec", "ndcg", "num_rel"}
    cuts = {"P_1", "P_10", "recall_5", "recall_10", "success_1", "success_10"}
    measures = words | {f"{name}.1,5,10" for name in ("P", "recall", "success")}
    theirs = pytrec_eval.RelevanceEvaluator(relevant, measures).evaluate(rankings)
    for query, figures in theirs.items():
        for word in words | cuts:
            # four digits are written
            assert float(ours[query, word]) == pytest.approx(figures[word], abs=5.1e-5), word
    assert ours["all", "runid"] == found["run_id"]
    assert float(ours["all", "map"]) == pytest.approx(
        found["fields"]["kind"]["map"]["raw"], abs=5.1e-5
    )
    assert ours["all", "num_rel"] == str(sum(len(docs) for docs in relevant.values()))


def test_prune_only_says_what_it_would_delete_until_told_yes(pair: tuple[str, str]) -> None:
    planned = run("runs", "prune", "--keep", "1")
    assert (planned["deleted"], [row["id"] for row in planned["runs"]]) == (False, [pair[0]])
    assert len(run("runs", "list")["runs"]) == 2
    done = run("runs", "prune", "--keep", "1", "--yes")
    assert (done["deleted"], [row["id"] for row in done["runs"]]) == (True, [pair[0]])
    assert [row["id"] for row in run("runs", "list")["runs"]] == [pair[1]]


def test_prune_tells_people_how_to_go_on(pair: tuple[str, str]) -> None:
    shown = invoke("runs", "prune", "--kind", "compare").stdout
    assert "2 would be deleted; add --yes" in shown
    assert "2 deleted" in invoke("runs", "prune", "--kind", "compare", "--yes").stdout


@pytest.fixture
def live() -> Iterator[str]:
    with RunLedger.open(DEFAULT_RUNS) as ledger, ledger.run("ingest") as recorded:
        yield recorded.id


def test_prune_goes_by_age_and_status_and_spares_the_living(
    pair: tuple[str, str], live: str
) -> None:
    assert run("runs", "prune", "--older-than", "1h", "--yes")["runs"] == []
    time.sleep(0.01)  # older than no time at all needs some time
    old = {row["id"] for row in run("runs", "prune", "--older-than", "0m")["runs"]}
    assert old == set(pair)
    assert run("runs", "prune", "--status", "failed", "--yes")["runs"] == []
    run("runs", "prune", "--keep", "0", "--yes")
    assert [row["id"] for row in run("runs", "list")["runs"]] == [live]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "say which: --older-than"),
        (("--older-than", "30"), "such as 30d"),
        (("--older-than", "soon"), "such as 30d"),
        (("--status", "RUNNING"), "COMPLETE"),
    ],
)
def test_prune_refuses_what_it_does_not_understand(
    pair: tuple[str, str], arguments: tuple[str, ...], sentence: str
) -> None:
    result = invoke("runs", "prune", *arguments, "--yes")
    assert result.exit_code == 2
    assert sentence.lower() in result.stderr.lower()
    assert len(run("runs", "list")["runs"]) == 2


@pytest.mark.parametrize("command", ["list", "prune"])
def test_a_kind_that_no_run_has_is_answered_with_the_closest(
    pair: tuple[str, str], command: str
) -> None:
    found = run("runs", command, "--kind", "campare", code=1)
    assert "did you mean compare" in found["error"]["message"]


@pytest.mark.parametrize(
    "arguments", [("compare", "a", "b"), ("export", "-o", "x.csv"), ("prune", "--keep", "1")]
)
def test_looking_at_runs_makes_no_database(arguments: tuple[str, ...]) -> None:
    found = run("runs", *arguments, code=1)
    assert "there is no runs database" in found["error"]["message"]
    assert not Path(".intramodal").exists()


def test_a_table_is_printed_or_written_by_its_suffix(pair: tuple[str, str]) -> None:
    chosen = ("runs", "table", "--rows", "method", "--cols", "collection")
    assert "| pca | 75.0 |" in invoke(*chosen).stdout
    assert invoke(*chosen, "--format", "csv").stdout.startswith("table,method,column,value,")
    assert json.loads(invoke(*chosen, "--format", "json").stdout)["heads"] == ["method"]
    for suffix, start in (("md", "### mAP"), ("tex", "\\begin{table}"), ("html", "<!doctype")):
        found = run(*chosen, "-o", f"table.{suffix}")
        assert found["out"] == f"table.{suffix}"
        assert Path(f"table.{suffix}").read_text(encoding="utf-8").startswith(start)


def test_a_table_in_a_file_of_no_known_form_is_refused(pair: tuple[str, str]) -> None:
    refused = invoke("runs", "table", "-o", "table.xls")
    assert refused.exit_code == 1
    assert (
        "does not end in .md, .markdown, .tex, .latex, .csv, .json, .html or .htm"
        in refused.stderr
    )
    assert not Path("table.xls").exists()
