"""``intramodal evaluate retrieval --protocol revisited``."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from intramodal import ImageCollection, RunLedger, evaluate_revisited, open_store
from intramodal.cli import cli
from intramodal.commands.options import DEFAULT_STORE
from intramodal.ground_truth import read_ground_truth
from intramodal.store.manifest import VectorOrigin
from intramodal.types import point_id
from tests.cli.evaluated import invoke, run
from tests.paper import miniature

N_QUERIES, N_GALLERY, DIM = 6, 30, 16
NAMES = [*(f"hall_q{n}" for n in range(N_QUERIES)), *(f"hall_{n:03d}" for n in range(N_GALLERY))]
REVISITED = ("retrieval", "oxford", "--protocol", "revisited", "--ground-truth", "gnd.pkl")


@pytest.fixture
def oxford(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fill a store with queries and gallery, with their ground truth beside it."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(19)
    X = rng.normal(size=(len(NAMES) + 1, DIM)).astype(np.float32)
    gnd = [
        {"easy": [5 * q], "hard": [5 * q + 1, 5 * q + 2], "junk": [5 * q + 3], "bbx": [0, 0, 9, 9]}
        for q in range(N_QUERIES)
    ]
    gnd[0]["easy"] = []
    data = {"imlist": NAMES[N_QUERIES:], "qimlist": NAMES[:N_QUERIES], "gnd": gnd}
    (tmp_path / "gnd.pkl").write_bytes(pickle.dumps(data, 2))
    paths = [f"{name}.jpg" for name in (*NAMES, "another")]
    with open_store(str(tmp_path / DEFAULT_STORE)) as store:
        vectors = {
            "raw": (DIM, VectorOrigin("clip", "3f9a")),
            "pca": (8, VectorOrigin("clip", "3f9a", projection="f0", source="raw")),
        }
        made = ImageCollection.create(store, "oxford", vectors)
        ids = [point_id("oxford", path) for path in paths]
        payloads = [{"path": path, "file": path.replace("hall", "x/hall")} for path in paths]
        made.write(ids, {"raw": X, "pca": X[:, :8]}, payloads)
    return tmp_path


def test_it_prints_what_the_job_finds(oxford: Path) -> None:
    shown = run(*REVISITED, "--classes")
    with open_store(str(oxford / DEFAULT_STORE)) as store:
        photos = ImageCollection.open(store, "oxford")
        truth = read_ground_truth(oxford / "gnd.pkl")
        expected = evaluate_revisited(photos, ground_truth=truth).to_dict(classes=True)
    assert {**shown, "run_id": None} == expected
    assert list(shown["fields"]["easy"]["vectors"]) == ["raw", "pca"]
    assert shown["fields"]["easy"]["n_without_positives"] == 1
    assert shown["n_unnamed"] == 1


def test_the_run_has_all_figures_by_difficulty_and_vector(oxford: Path) -> None:
    shown = run(*REVISITED, "--vectors", "raw", "--ks", "1,3")
    with RunLedger.open("sqlite:///.intramodal/runs.db") as ledger:
        (record,) = ledger.runs()
        found = {(m.field, m.name): m.value for m in ledger.metrics(record.id)}
    assert record.kind == "evaluate-retrieval"
    assert record.parameters["ground_truth"] == "gnd.pkl"
    truth = read_ground_truth(oxford / "gnd.pkl")
    assert record.parameters["ground_truth_fingerprint"] == truth.fingerprint
    assert shown["ground_truth"] == truth.fingerprint
    assert "min_class_size" not in record.parameters
    for difficulty in ("easy", "medium", "hard"):
        figures = shown["fields"][difficulty]["vectors"]["raw"]
        assert found[difficulty, "mAP"] == figures["map"]
        assert found[difficulty, "mP@1"] == figures["mP@1"]
        assert found[difficulty, "mP@3"] == figures["mP@3"]
    assert found["easy", "queries without positives"] == 1
    assert (None, "cropped queries") not in found  # nothing says so


def test_the_table_fits_80_columns_and_says_who_is_left_out(oxford: Path) -> None:
    result = invoke(*REVISITED)
    assert result.exit_code == 0, result.output
    assert all(len(line.rstrip()) <= 80 for line in result.stdout.splitlines())
    for part in ("easy", "medium", "hard", "mP@10", "ties expected", "gallery of 30"):
        assert part in result.stdout
    assert "left out of easy: 1 queries without a relevant image" in result.stderr
    assert "left out: 1 points that the ground truth does not name" in result.stderr
    assert "cropped" not in result.stderr  # nothing says so


def test_images_are_found_by_another_field(oxford: Path) -> None:
    by_path = run(*REVISITED)["fields"]
    assert run(*REVISITED, "--name-field", "file")["fields"] == by_path


USAGE: dict[str, tuple[tuple[str, ...], str]] = {
    "labels": (
        (*REVISITED, "--labels", "kind"),
        "--labels does not apply to the revisited protocol, where the ground truth says what is "
        "relevant; leave it out",
    ),
    "ties": ((*REVISITED, "--ties", "best"), "--ties does not apply to the revisited protocol"),
    "nothing": (
        REVISITED[:4],
        "the revisited protocol needs --ground-truth, such as gnd_roxford5k.pkl; give it",
    ),
    "alone": (
        ("retrieval", "oxford", "--labels", "kind", "--ground-truth", "gnd.pkl"),
        "--ground-truth is for the revisited protocol; add --protocol revisited, or leave it out",
    ),
    "neither": (
        ("retrieval", "oxford"),
        "give --labels, the payload fields that say what is relevant, or --protocol revisited",
    ),
}


@pytest.mark.parametrize("name", USAGE)
def test_options_of_the_other_protocol_are_refused_in_a_sentence(oxford: Path, name: str) -> None:
    arguments, said = USAGE[name]
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


def edit(path: Path, **parts: Any) -> None:
    data = pickle.loads(path.read_bytes())
    path.write_bytes(pickle.dumps({**data, **parts}, 2))


def test_names_that_have_no_point_are_said_in_one_sentence(oxford: Path) -> None:
    edit(oxford / "gnd.pkl", qimlist=[f"tower_{n}" for n in range(N_QUERIES)])
    result = invoke(*REVISITED)
    assert result.exit_code == 1
    said = result.stderr.strip().splitlines()[-1]
    assert "no point has the name of 6 of 6 queries (tower_0, tower_1, tower_2, ...)" in said


def test_a_difficulty_without_relevant_images_is_left_out_and_said(oxford: Path) -> None:
    data = pickle.loads((oxford / "gnd.pkl").read_bytes())
    edit(oxford / "gnd.pkl", gnd=[{**row, "easy": []} for row in data["gnd"]])
    result = invoke(*REVISITED)
    assert result.exit_code == 0, result.output
    assert "left out: easy, where no query has a relevant image" in result.stderr
    assert list(run(*REVISITED)["fields"]) == ["medium", "hard"]


def test_a_pickle_that_is_none_is_said_in_one_sentence(oxford: Path) -> None:
    (oxford / "gnd.pkl").write_bytes(b"cposix\nsystem\n(S'touch made'\ntR.")
    result = invoke(*REVISITED)
    assert result.exit_code == 1
    assert "gnd.pkl names posix.system, which is not data" in result.stderr
    assert not (oxford / "made").exists()


def call(*arguments: str) -> Any:
    result = CliRunner().invoke(cli, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("crop", [False, True])
def test_images_are_ingested_by_the_ground_truth_and_then_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crop: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    miniature.write(tmp_path, "roxford")
    ground_truth = ("--ground-truth", "roxford5k/gnd_roxford5k.pkl")
    place = ("ingest", "roxford5k/jpg", "--collection", "oxford", "--model", "demo")
    done = call(*place, *ground_truth, *(["--crop"] if crop else []))
    assert done["failed"] == 0
    shown = run(
        "retrieval", "oxford", "--protocol", "revisited", *ground_truth, "--vectors", "raw"
    )
    assert (
        shown["fields"]["medium"]["n_gallery"] + shown["fields"]["medium"]["n_queries"]
        == (done["written"])
    )
    assert shown["n_cropped"] == (shown["fields"]["medium"]["n_queries"] if crop else 0)
    assert shown["fields"]["medium"]["vectors"]["raw"]["map"] > 0.3
    said = invoke(
        "retrieval", "oxford", "--protocol", "revisited", *ground_truth, "--vectors", "raw"
    )
    crop_note = "cropped to their boxes" if crop else "whole images, not cropped"
    assert f"queries: {crop_note}" in said.stderr
    with RunLedger.open("sqlite:///.intramodal/runs.db") as ledger:
        metrics = {m.name: m.value for m in ledger.metrics(shown["run_id"])}
    assert metrics["cropped queries"] == shown["n_cropped"]


def test_cropping_needs_a_ground_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["ingest", "jpg", "--collection", "oxford", "--model", "demo", "--crop"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2
    assert "--crop is for --ground-truth only; give both, or leave it out" in result.output
