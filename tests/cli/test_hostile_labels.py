"""Labels and paths that try to break out, through every table and page."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from intramodal import RunLedger, open_store
from intramodal.commands.options import DEFAULT_RUNS, DEFAULT_STORE
from intramodal.runs.scores import MEDIA_TYPE, SCORES, QueryScores, pack_scores
from tests.cli.kit import invoke, make_photos, run
from tests.unit.reports.sample import EMOJI, HOSTILE, RIGHT_TO_LEFT
from tests.unit.reports.test_report import Elements

KINDS = [HOSTILE, "x" * 10_000, RIGHT_TO_LEFT, EMOJI, "two\nlines\x1b[2J", "turn\u202eed"]
PATHS = ["with spaces.jpg", "a\nb/\x1b]0;title\x07.jpg", "../../etc/passwd", "nul\\x00.jpg"]
FIELD = "kind"


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> list[str]:
    monkeypatch.chdir(tmp_path)
    ids, _, _ = make_photos(rng, label=FIELD, kinds=KINDS, paths=PATHS)
    return ids


def harmless(shown: str) -> bool:
    """Return whether a terminal would only print this: no control and no direction marks."""
    marks = {unicodedata.category(c) for c in shown.replace("\n", "")}
    return not marks & {"Cc", "Cf", "Cs"}


def test_every_table_prints_them_and_nothing_acts(photos: list[str]) -> None:
    compared = invoke("compare", "photos", "--labels", FIELD, "--no-controls")
    assert compared.exit_code == 0, compared.output
    (run_id,) = re.findall(r"^run (\S+)$", compared.stderr, re.MULTILINE)
    searched = invoke("search", "photos", "--id", photos[0], "-k", "20")
    listed = [invoke("runs", "list"), invoke("runs", "show", run_id)]
    for result in (compared, searched, *listed):
        assert result.exit_code == 0, result.output
        assert harmless(result.stdout), result.stdout


def test_labels_that_look_alike_are_pointed_out_once_and_cannot_act(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.chdir(tmp_path)
    make_photos(rng, label=FIELD, kinds=["Red", "red\u202e", "caf\u00e9", "cafe\u0301", "blue"])
    words = f"evaluate retrieval photos --vectors raw,pca --labels {FIELD},season --cluster none"
    # The handler of the log keeps the stream of the first call: a process of its own.
    code = "from intramodal.cli import cli; cli(prog_name='intramodal')"
    done = subprocess.run(
        [sys.executable, "-c", code, *words.split(), "--json"],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    (told,) = [line for line in done.stderr.splitlines() if "look alike" in line]
    assert told.startswith(f"WARNING intramodal.evaluation.labels: field '{FIELD}' has labels")
    assert r"(2 groups): 'Red', 'red\u202e'; 'cafe\u0301', 'caf\xe9'; write them alike" in told
    assert harmless(told)
    assert json.loads(done.stdout)["fields"][FIELD]["n_classes"] == 5


def test_json_keeps_them_exactly(photos: list[str]) -> None:
    found = run("search", "photos", "--id", photos[0], "-k", "100")
    hits = [hit for answers in found["vectors"].values() for hit in answers]
    assert {hit["payload"][FIELD] for hit in hits} == set(KINDS)
    assert {hit["path"] for hit in hits} == set(PATHS)


def test_every_page_shows_them_as_text(photos: list[str]) -> None:
    run("compare", "photos", "--labels", FIELD, "--no-controls", "-o", "report.html")
    run("search", "photos", "--id", photos[0], "-k", "60", "--html", "search.html")
    for name in ("report.html", "search.html"):
        page = Path(name).read_text(encoding="utf-8")
        elements = Elements()
        elements.feed(page)
        assert elements.tags.count("script") == (name == "report.html")  # its own
        assert not {"iframe", "object", "embed"} & set(elements.tags)
        assert all(a.startswith(("data:", "#")) for a in elements.addresses)
        assert "x" * 1000 not in page
        assert "root:" not in page
        assert len(page.encode()) < 5_000_000
        assert "with spaces.jpg" in page


def test_every_file_of_runs_can_be_read_back(photos: list[str]) -> None:
    run_id = run("compare", "photos", "--labels", FIELD, "--no-controls")["run_id"]
    for name in ("runs.csv", "runs.json", "tables.md", "tables.tex"):
        command = ("runs", "export") if name.startswith("runs") else ("report",)
        run(*command, "-o", name)
    with Path("runs.csv").open(newline="", encoding="utf-8") as file:
        assert {row["field"] for row in csv.DictReader(file)} == {FIELD}
    (stored,) = json.loads(Path("runs.json").read_text(encoding="utf-8"))["runs"]
    assert {metric["field"] for metric in stored["metrics"]} == {FIELD}
    for name in ("tables.md", "tables.tex"):
        assert "kind" in Path(name).read_text(encoding="utf-8")
    run("runs", "export", run_id, "--format", "trec", "-o", "scores")
    assert len(list(Path("scores").iterdir())) == 2


def test_fields_that_no_file_can_be_called_are_exported_under_harmless_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fields = ["../up", "a/b\n<c>", "x" * 10_000, "🐈" * 300, "a b", "a_b", ""]
    scores = [QueryScores(f, "raw", [1], {"ap": np.array([0.5])}) for f in fields]
    with RunLedger.open(DEFAULT_RUNS) as ledger, ledger.run("compare") as recorded:
        recorded.save_artefact(SCORES, pack_scores(scores), MEDIA_TYPE)
    run("runs", "export", "--format", "trec", "-o", "scores")
    names = [path.name for path in Path("scores").iterdir()]
    assert len(names) == len(fields)
    assert all(not set(name) & set('<>|$/\\[] "\n') for name in names)
    assert {path.name for path in tmp_path.iterdir()} == {".intramodal", "scores"}


@pytest.mark.parametrize("field", ["my field", "a.b", "size [cm]", '7" disc', "back\\slash", "😀"])
def test_a_label_field_may_have_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator, field: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make_photos(rng, label=field)
    compared = run("compare", "photos", "--labels", field, "--no-controls", "-o", "report.html")
    assert set(compared["fields"]) == {field}
    evaluated = run("evaluate", "retrieval", "photos", "--labels", field)
    for vector, row in evaluated["fields"][field]["vectors"].items():
        assert row["map"] == compared["fields"][field]["map"][vector]
    assert harmless(invoke("runs", "list").stdout)


def test_a_misspelt_field_inside_an_object_is_answered_with_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.chdir(tmp_path)
    ids, _, kinds = make_photos(rng)
    with open_store(DEFAULT_STORE) as store:
        for point, kind in zip(ids, kinds, strict=True):
            store.set_payload("photos", [point], {"shot": {"kind of": kind}})
    error = run("evaluate", "retrieval", "photos", "--labels", "shot.kind", code=1)["error"]
    assert "'shot.\"kind of\"'" in error["message"]
    named, plain = (
        run("evaluate", "retrieval", "photos", "--labels", field)["fields"][field]["vectors"]
        for field in ('shot."kind of"', "kind")
    )
    assert named == plain
