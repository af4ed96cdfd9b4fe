"""`--labels-from`: every command that takes labels, or says which points, takes them from a file.

Issue 20: many owners may not write payload.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal import ImageCollection, RunLedger, open_store
from intramodal.commands.options import DEFAULT_RUNS, DEFAULT_STORE
from intramodal.evaluation.results import LABELS_FROM
from tests.cli import kit
from tests.cli.evaluated import COMMANDS, DIM, N_KINDS, N, invoke, make_shop, pictures, run

FILE = ("--labels-from", "labels.csv", "--id-column", "sku")
HALF = "--where", "kind=kind 0,kind 1,kind 2"
MEASURED = {
    **COMMANDS,
    "index": ("photos", "--labels", "kind", "--searches", "raw,pca", "-k", "9", "--timed", "2"),
    "text": ("photos", "--labels", "kind", "--text-vectors", "kinds.npy"),
    "fewshot-text": (
        *("photos", "--labels", "kind", "--text-vectors", "kinds.npy", "--episodes", "2"),
        *("--methods", "zero-shot,lda", "--shots", "1"),
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_shop(tmp_path_factory.mktemp("shop"))
    rng = np.random.default_rng(2)
    for name, n in (("kinds.npy", N_KINDS), ("three.npy", 3)):
        np.save(made / name, rng.normal(size=(n, DIM)).astype(np.float32))
    table = pictures()
    columns = [table.payload[name] for name in ("kind", "split")]
    with (made / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sku", "shape", "half", "also"])
        for point, kind, split in zip(table.ids, *columns, strict=True):
            writer.writerow([str(point).replace("-", "").upper(), kind, split, kind])
        writer.writerow([7, "kind 1", "test", ""])
    return made


@pytest.fixture(autouse=True)
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


_OF_ONE_CALL = ("run_id", "labels_from", "where")


def comparable(found: dict[str, Any]) -> dict[str, Any]:
    """Return a result without what a repetition changes, and names of fields as in the payload."""
    own = {name: value for name, value in found.items() if name not in _OF_ONE_CALL}
    text = json.dumps(own).replace("shape", "kind").replace("half", "split")
    plain = json.loads(text)
    for row in plain["rows"] if isinstance(plain.get("rows"), list) else ():
        row.pop("latency_ms", None)
    return dict(plain)


@pytest.mark.parametrize("name", MEASURED)
def test_figures_by_the_file_are_those_by_the_payload(name: str) -> None:
    arguments = [option.replace("kinds.npy", "three.npy") for option in (name, *MEASURED[name])]
    by_payload = run(*arguments, *HALF)
    shaped = [
        option.replace("kind", "shape") if option == "kind" else option for option in arguments
    ]
    shaped += ["--where", "shape=kind 0,kind 1,kind 2", *FILE]
    by_file = run(*shaped)
    about = by_file["labels_from"]
    assert (about["file"], about["n_rows"], about["n_without_row"]) == ("labels.csv", N + 1, 0)
    assert about["n_unknown"] == 1
    assert comparable(by_file) == comparable(by_payload)
    with RunLedger.open(DEFAULT_RUNS) as ledger:
        kept = ledger.get(by_file["run_id"])
        assert kept.parameters["labels_from"] == "labels.csv"
        assert kept.parameters["labels_fingerprint"] == about["fingerprint"]
        assert json.loads(ledger.artefact(by_file["run_id"], LABELS_FROM)) == about
    said = invoke(*shaped).stderr
    assert f"labels from labels.csv: {N + 1} rows (1 without a point), 0 points without" in said


def test_queries_and_gallery_come_from_the_file_in_every_search() -> None:
    options = ("--searches", "raw", "-k", "5", "--exact", "--timed", "1")
    (ours,) = run("index", "photos", "--labels", "shape", "--split", "half", *options, *FILE)[
        "rows"
    ]
    (plain,) = run("index", "photos", "--labels", "kind", "--split", "split", *options)["rows"]
    names = ("n_queries", "n_outside", "recall", "precision_at_k", "exact_map")
    assert [ours[name] for name in names] == [plain[name] for name in names]


def test_a_comparison_takes_labels_from_the_file_and_says_so() -> None:
    arguments = ("compare", "photos", "--task", "retrieval", "--split", "half", *FILE)
    found = kit.run(*arguments, "--labels", "shape")
    assert found["labels_from"]["n_unknown"] == 1
    assert found["cost"]["raw"]["fields"]["shape"]["n_queries"] > 0
    said = kit.invoke(*arguments, "--labels", "shape").stderr
    assert "labels from labels.csv: 121 rows" in said


def test_a_column_that_the_payload_has_too_wins_and_it_is_said(tmp_path: Path) -> None:
    rows = Path("labels.csv").read_text().replace("shape", "kind", 1)
    (tmp_path / "own.csv").write_text(rows)
    arguments = ("retrieval", "photos", "--labels", "kind", "--vectors", "raw")
    file = ("--labels-from", str(tmp_path / "own.csv"), "--id-column", "sku")
    found = run(*arguments, *file)
    assert found["labels_from"]["also_in_payload"] == {"kind": N}
    said = invoke(*arguments, *file).stderr
    assert (
        f"'kind' is taken from {tmp_path / 'own.csv'}, not from the payload of 120 points" in said
    )


def test_what_is_no_file_of_labels_is_one_sentence_before_the_store_is_read() -> None:
    Path("twice.csv").write_text("id,shape\n7,a\n7.0,b\n")
    Path("other.csv").write_text("id,shape\n7,a\n8,b\n")
    arguments = ("retrieval", "photos", "--labels", "shape")
    for file, said in (
        ("twice.csv", "rows 2 and 3 of twice.csv have the same id 7"),
        ("other.csv", "none of the 2 ids of other.csv, such as 7, is in collection 'photos'"),
        ("nowhere.csv", "there is no file nowhere.csv"),
        ("T.npy", "T.npy is no table"),
        ("labels.csv", "labels.csv has no column 'id'"),
    ):
        message = run(*arguments, "--labels-from", file, code=1)["error"]["message"]
        assert said in message
        assert "\n" not in message
    found = invoke(*arguments, "--id-column", "sku")
    assert found.exit_code == 2
    assert "--id-column is for --labels-from only" in found.output


def test_a_field_in_neither_names_the_columns_of_both() -> None:
    arguments = ("retrieval", "photos", "--labels", "shapes", *FILE)
    assert "has 'shape'" in run(*arguments, code=1)["error"]["message"]
    found = run("retrieval", "photos", "--labels", "kind", "--where", "half=tset", *FILE, code=1)
    assert "has half=tset; some of its values are 'test'" in found["error"]["message"]


def test_the_collection_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(".intramodal/store", tmp_path / DEFAULT_STORE)
    shutil.copy("labels.csv", tmp_path)
    monkeypatch.chdir(tmp_path)
    run("retrieval", "photos", "--labels", "shape", "--split", "half", *FILE)
    with open_store(DEFAULT_STORE) as store:
        photos = ImageCollection.open(store, "photos")
        assert {
            name for page in photos.scroll(payload=True) for p in page.payloads for name in p
        } == {*("kind", "split", "masterCategory", "year", "path")}
        assert photos.info().indexes == {}
