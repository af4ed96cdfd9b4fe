"""`--where`: every command that measures takes it, records it, and says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal import RunLedger
from intramodal.commands.options import DEFAULT_RUNS
from tests.cli import kit
from tests.cli.evaluated import COMMANDS, DIM, N, invoke, make_shop, run

MEASURED = {
    **COMMANDS,
    "index": ("photos", "--labels", "kind", "--searches", "raw,pca", "-k", "9", "--timed", "2"),
    "text": ("photos", "--labels", "kind", "--text-vectors", "kinds.npy"),
    "fewshot-text": (
        *("photos", "--labels", "kind", "--text-vectors", "kinds.npy", "--episodes", "2"),
        *("--methods", "zero-shot,lda", "--shots", "1"),
    ),
}
# Every other point is of 2013: 0, 2, 4, ... of six kinds, which leaves three.
THREE = "--where", "year=2013", "--where", "kind=kind 0,kind 2,kind 3"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_shop(tmp_path_factory.mktemp("shop"))
    np.save(made / "kinds.npy", np.random.default_rng(2).normal(size=(2, DIM)).astype(np.float32))
    return made


@pytest.fixture(autouse=True)
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def n_points(result: dict[str, Any]) -> int:
    """Return how many points an evaluation is of, wherever its JSON says so."""
    if "rows" in result and "n_points" not in result:
        (n,) = {row["n_points"] for row in result["rows"]}
        return int(n)
    return int(result["n_points"])


@pytest.mark.parametrize("name", MEASURED)
def test_only_matching_points_are_measured(name: str) -> None:
    arguments = (name, *MEASURED[name])
    if name == "misalignment":
        arguments = (name, "photos", "photos:pca", "--labels", "kind")
    found = run(*arguments, *THREE)
    shown = "year=2013 and kind=kind 0,kind 2,kind 3"
    assert found["where"] == shown
    if name != "fewshot-text":
        assert n_points(found) == N // 3
    else:
        assert found["fields"]["kind"]["n_images"] == N // 3
    with RunLedger.open(DEFAULT_RUNS) as ledger:
        assert ledger.get(found["run_id"]).parameters["where"] == shown
    told = invoke(*arguments, *THREE)
    assert told.exit_code == 0, told.output
    assert f"only points with {shown} (--where)" in told.stderr


@pytest.mark.parametrize("name", MEASURED)
def test_without_a_filter_none_is_recorded_or_printed(name: str) -> None:
    np.save("six.npy", np.random.default_rng(2).normal(size=(6, DIM)).astype(np.float32))
    arguments = [option.replace("kinds.npy", "six.npy") for option in (name, *MEASURED[name])]
    found = run(*arguments)
    assert found["where"] is None
    with RunLedger.open(DEFAULT_RUNS) as ledger:
        assert "where" not in ledger.get(found["run_id"]).parameters
    assert "--where" not in invoke(*arguments).stderr


def test_values_of_one_field_are_alternatives_however_they_are_given() -> None:
    options = ("retrieval", "photos", "--labels", "year", "--vectors", "raw")
    once = run(*options, "--where", "kind=kind 0,kind 1")
    twice = run(*options, "--where", "kind=kind 0", "--where", "kind=kind 1")
    assert once["n_points"] == N // 3
    assert {**once, "run_id": ""} == {**twice, "run_id": ""}


def test_queries_and_gallery_are_chosen_among_matching_points() -> None:
    options = ("photos", "--labels", "kind", "--where", "year=2013", "--split", "split")
    found = run("retrieval", *options)["fields"]["kind"]
    (row,) = run("index", *options, "--searches", "raw", "-k", "5", "--exact")["rows"]
    assert found["n_gallery"] < N // 2
    assert (row["n_queries"], row["n_outside"], row["recall"]) == (found["n_queries"], 0, 1)


def test_a_sample_says_how_many_points_match() -> None:
    found = run(
        *("retrieval", "photos", "--labels", "kind", "--vectors", "raw"),
        *("--where", "year=2013", "--sample", "30"),
    )
    assert found["sample"] == {"n_points": 30, "of": N // 2, "seed": 0}


def test_a_filter_that_no_point_matches_is_one_sentence_with_close_values() -> None:
    found = run("recovery", *COMMANDS["recovery"], "--where", "kind=kind O", code=1)
    message = found["error"]["message"]
    assert message.startswith(
        "no point of 'photos' has kind=kind O; some of its values are 'kind 5' or "
    )
    # Two collections: the one without a match is named.
    options = ("misalignment", "photos", "prints", "--labels", "kind")
    with_id = run(*options, "--where", "kind=kinds", code=1)["error"]["message"]
    assert "no point of 'photos' has kind=kinds" in with_id


def test_what_is_no_filter_is_refused_before_anything_is_read() -> None:
    found = invoke("retrieval", "nowhere", "--labels", "kind", "--where", "tenant")
    assert found.exit_code == 2
    assert "'tenant' is not a filter" in found.output


def test_a_configuration_file_gives_filters() -> None:
    config = Path("intramodal.toml")
    config.write_text('[evaluate]\nwhere = ["year=2013"]\n')
    try:
        found = run("retrieval", "photos", "--labels", "kind")
    finally:
        config.unlink()
    assert (found["n_points"], found["where"]) == (N // 2, "year=2013")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> str:
    monkeypatch.chdir(tmp_path)
    kit.make_photos(rng)
    return "photos"


def test_a_comparison_and_its_report_are_of_matching_points(photos: str) -> None:
    asked = ("compare", photos, "--labels", "kind", "--where", "season=season 0,season 1")
    found = kit.run(*asked, "-o", "page.html")
    assert found["where"] == "season=season 0,season 1"
    assert found["fields"]["kind"]["n_queries"] == kit.N // 2
    page = Path("page.html").read_text(encoding="utf-8")
    assert "raw or pca in photos where season=season 0,season 1" in page
    with RunLedger.open(DEFAULT_RUNS) as ledger:
        stated = ledger.get(found["run_id"]).parameters
    assert stated["where"] == "season=season 0,season 1"
    assert "only points with season=season 0,season 1" in kit.invoke(*asked).stderr


def test_neighbours_without_labels_are_of_matching_points(photos: str) -> None:
    asked = ("compare", photos, "--where", "season=season 0", "-k", "5")
    found = kit.run(*asked, "-o", "page.html")
    assert found["where"] == "season=season 0"
    assert found["agreement"]["n_images"] == kit.N // 4
    assert {row["recall_at_10"] for row in found["cost"].values()} == {1.0}
    page = Path("page.html").read_text(encoding="utf-8")
    assert "photos where <bdi>season=season 0</bdi>" in page


def test_pages_of_indicators_say_which_points_they_are_of() -> None:
    for name in ("misalignment", "recovery"):
        run(name, *MEASURED[name], "--where", "year=2013", "-o", "page.html")
        assert "Only points with <bdi>year=2013</bdi>" in Path("page.html").read_text("utf-8")
