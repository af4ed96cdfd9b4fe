"""The object that `intramodal compare --json` prints: its keys are documented and stay."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.kit import make_photos, run

DOCUMENT = Path(__file__).parents[2] / "docs" / "method.md"
OUTCOMES = {"better", "not_worse", "mixed", "worse", "too_easy", "inconclusive"}


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> str:
    monkeypatch.chdir(tmp_path)
    make_photos(rng)
    return "photos"


def documented() -> dict[str, Any]:
    (block,) = re.findall(r"```json\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    found: dict[str, Any] = json.loads(block)
    return found


def test_the_documented_keys_are_those_of_the_issue() -> None:
    (row,) = documented()["fields"].values()
    assert list(row) == [
        *("map", "map_by_distance", "label_evidence", "delta", "interval", "population"),
        *("p_value", "p_adjusted"),
        *("n_queries", "n_classes", "effective_classes", "wins", "ties", "losses"),
        *("verdict_retrieval", "fewshot", "verdict_fewshot", "verdict", "brief"),
        "sentence",
        *("p_better", "p_not_worse", "p_worse", "pieces", "first_page", "duplicates", "others"),
        "next_maps",
    ]


def test_a_comparison_prints_the_documented_object(photos: str) -> None:
    found, expected = run("compare", photos, "--labels", "kind,season"), documented()
    assert list(found) == list(expected)
    (example,) = expected["fields"].values()
    for row in found["fields"].values():
        assert list(row) == list(example)
        assert [list(other) for other in row["others"]] == [list(example["others"][0])] * 4
        assert list(row["fewshot"]) == list(example["fewshot"])
        for part in ("pieces", "first_page"):
            assert list(row[part]) == list(example[part])
            for name, values in row[part].items():
                assert list(values) == list(example[part][name])
        assert list(row["duplicates"]) == list(example["duplicates"])
        shots = [found for by_shots in row["fewshot"].values() for found in by_shots.values()]
        assert all(list(one) == list(example["fewshot"]["lda"]["1"]) for one in shots)
    assert list(found["cost"]) == list(expected["cost"])
    for name, cost in found["cost"].items():
        assert list(cost) == list(expected["cost"][name])
        assert list(cost["fields"]) == list(found["fields"])
        (first_results,) = expected["cost"][name]["fields"].values()
        assert all(list(row) == list(first_results) for row in cost["fields"].values())


def test_values_are_fractions_counts_and_named_outcomes(photos: str) -> None:
    for row in run("compare", photos, "--labels", "kind,season")["fields"].values():
        low, high = row["interval"]
        assert row["delta"] == pytest.approx(row["map"]["pca"] - row["map"]["raw"], abs=1e-12)
        assert -1 <= low <= row["delta"] <= high <= 1
        assert all(0 <= row[name] <= 1 for name in ("p_value", "p_adjusted"))
        assert all(0 <= value <= 1 for value in row["map"].values())
        assert row["wins"] + row["ties"] + row["losses"] == row["n_queries"]
        assert {row[name] for name in row if name.startswith("verdict")} <= OUTCOMES
        assert f"({row['n_queries']} queries" in row["sentence"]
        for piece in row["pieces"].values():
            assert piece["delta"] == pytest.approx(piece["b"] - piece["a"], abs=1e-9)
            assert piece["interval"][0] <= piece["delta"] <= piece["interval"][1]
            assert all(0 <= piece[p] <= 1 for p in ("p_value", "p_adjusted", "p_guarded"))
            assert piece["may_lose"] == max(0, -piece["interval"][0])
        for by_shots in row["fewshot"].values():
            assert set(by_shots) <= {"1", "2", "4", "8", "16"}
            for one in by_shots.values():
                assert 0 <= one["a"] <= 1
                assert one["delta"] == pytest.approx(one["b"] - one["a"], abs=1e-12)


def test_costs_tell_how_good_the_first_results_of_every_search_are(photos: str) -> None:
    found = run("compare", photos, "--labels", "kind,season")["cost"]
    for row in (row for cost in found.values() for row in cost["fields"].values()):
        assert 0 < row["ndcg_at_10"] <= 1
        assert 0 < row["precision_at_10"] <= 1
        assert row["n_queries"] == 50
    raw, pca, both = (cost["fields"]["season"]["ndcg_at_10"] for cost in found.values())
    assert pca < both <= raw + 0.05  # the projection has lost the season; raw ranks in two stages


def test_what_was_not_computed_is_null_and_inconclusive(photos: str) -> None:
    row = run("compare", photos, "--labels", "kind", "--task", "retrieval")["fields"]["kind"]
    assert (row["fewshot"], row["verdict_fewshot"]) == (None, "inconclusive")
    row = run("compare", photos, "--labels", "kind", "--task", "fewshot")["fields"]["kind"]
    empty = {name: row[name] for name in ("delta", "interval", "p_value", "p_adjusted")}
    assert empty == dict.fromkeys(empty)
    assert (row["pieces"]["map"], row["pieces"]["first"], row["first_page"]) == (None, None, {})
    assert (row["verdict_retrieval"], row["others"]) == ("inconclusive", [])
