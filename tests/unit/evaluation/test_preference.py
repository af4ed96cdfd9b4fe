"""Votes: what a file of them must hold, and how sure the preference is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from intramodal.errors import InputError
from intramodal.evaluation.intervals import sign_test
from intramodal.evaluation.preference import (
    MAX_VOTES_BYTES,
    VOTES_FORMAT,
    Votes,
    judgments_of,
    measure_preference,
)
from intramodal.evaluation.revisited import evaluate_revisited
from intramodal.ground_truth import read_ground_truth
from intramodal.types import VectorTable


def write(path: Path, choices: list[str], *, left: str = "ab", **about: Any) -> Path:
    votes = [
        {"query": n, "choice": choice, "left": left[n % len(left)]}
        for n, choice in enumerate(choices)
    ]
    stored = {"format": VOTES_FORMAT, "collection": "shop", "vectors": ["raw", "pca"]}
    path.write_text(json.dumps({**stored, "run_id": "r1", "seed": 0, "votes": votes} | about))
    return path


def votes(path: Path, choices: list[str], **about: Any) -> Votes:
    return Votes.load(write(path / "votes.json", choices, **about))


@pytest.mark.parametrize(("n_for", "n"), [(0, 0), (0, 5), (5, 5), (9, 10), (17, 40), (3, 7)])
def test_the_interval_and_p_are_those_of_the_exact_binomial_test(n_for: int, n: int) -> None:
    (low, high), p = sign_test(n_for, n)
    if n == 0:
        assert (low, high, p) == (0.0, 1.0, 1.0)
        return
    oracle = stats.binomtest(n_for, n)
    ends = oracle.proportion_ci(0.95, "exact")
    assert (low, high) == pytest.approx((ends.low, ends.high), abs=1e-9)
    assert p == pytest.approx(oracle.pvalue, abs=1e-12)
    assert (p < 0.05) == (low > 0.5 or high < 0.5)


def test_a_clear_preference_says_for_how_many_queries_and_how_sure(tmp_path: Path) -> None:
    found = measure_preference([votes(tmp_path, ["b"] * 15 + ["a"] * 3 + ["tie"] * 2)])
    assert (found.n_a, found.n_b, found.n_ties) == (3, 15, 2)
    assert found.share == 15 / 18
    assert found.sentence.startswith("People prefer pca: pca is better for 15 of 18 decided")
    assert "not a random sample" in found.sentence


def test_an_open_preference_is_called_open(tmp_path: Path) -> None:
    found = measure_preference([votes(tmp_path, ["b"] * 5 + ["a"] * 4)])
    assert found.sentence.startswith("Neither is clearly preferred: pca is better for 5 of 9")
    nothing = measure_preference([votes(tmp_path, ["tie"] * 3)])
    assert nothing.share is None
    assert nothing.sentence == "No query was decided: 3 show no difference."


def test_the_majority_counts_where_several_people_judge_one_query(tmp_path: Path) -> None:
    people = [
        Votes.load(write(tmp_path / f"{n}.json", choices))
        for n, choices in enumerate((["b", "a"], ["b", "b"], ["a", "tie"]))
    ]
    found = measure_preference(people)
    assert (found.n_a, found.n_b, found.n_ties, found.n_people) == (0, 1, 1, 3)


def test_votes_that_follow_the_side_are_pointed_out(tmp_path: Path) -> None:
    choices = ["a", "b"] * 10  # whatever is on the left
    biased = measure_preference([votes(tmp_path, choices, left="ab")])
    assert biased.bias is not None
    assert biased.bias.startswith("left was chosen in 20 of 20")
    fair = measure_preference([votes(tmp_path, ["b"] * 20, left="ab")])
    assert fair.bias is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\udcff", "not a JSON file of votes"),
        ("[", "not a JSON file of votes"),
        ("[]", "not a file of votes"),
        ('{"format": "other"}', "not a file of votes"),
        (json.dumps({"format": VOTES_FORMAT}), "damaged"),
        ("[" * 200_000 + "]" * 200_000, "not a JSON file of votes"),
        ('{"n": ' + "1" * 6000 + "}", "not a JSON file of votes"),
        (" " * (MAX_VOTES_BYTES + 1), "too many for votes"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.json").write_text(text, "utf-8", "surrogateescape")
    with pytest.raises(InputError, match=said):
        Votes.load(tmp_path / "x.json")


def test_a_file_that_is_not_there_and_votes_for_neither_vector_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        Votes.load(tmp_path / "gone.json")
    with pytest.raises(InputError, match="damaged"):
        votes(tmp_path, ["c"])
    with pytest.raises(InputError, match="no votes"):
        votes(tmp_path, [])


def test_votes_on_other_vectors_are_not_mixed(tmp_path: Path) -> None:
    one = votes(tmp_path, ["a"])
    other = Votes.load(write(tmp_path / "other.json", ["a"], vectors=["raw", "centred"]))
    with pytest.raises(InputError, match="one pair of vectors"):
        measure_preference([one, other])


def marked(path: Path, name: str, **by_query: tuple[list[str], list[str]]) -> Votes:
    rows = [
        {"query": query, "choice": None, "left": "a", "right": right, "wrong": wrong}
        for query, (right, wrong) in by_query.items()
    ]
    return Votes.load(write(path / name, [], votes=rows))


def test_marked_results_are_judgments_that_any_vector_is_evaluated_with(tmp_path: Path) -> None:
    one = marked(tmp_path, "1.json", q=(["b"], ["c"]), p=(["c", "d"], []), none=([], ["b"]))
    truth = judgments_of([one])
    (tmp_path / "judged.json").write_text(truth.to_json())
    read = read_ground_truth(tmp_path / "judged.json")
    assert read.fingerprint == truth.fingerprint
    assert (read.gallery, read.queries) == (("b", "c", "d"), ("q", "p"))
    # By hand: q ranks d, c, b; d is not judged for it, c is wrong and b right: the trapezoid of
    # the precisions 0 before and 1/2 at b. p ranks d, c first, and b is not judged: 1.
    X = np.array([[1, 0], [1, 0.3], [1, 0.2], [1, 0.1], [0, 1]], dtype=np.float32)
    X = np.vstack([X, [[1, 0.05]]]).astype(np.float32)
    table = VectorTable(list("qbcdxp"), {"raw": X}, {})
    found = evaluate_revisited(table, ground_truth=read, vectors=["raw"], name_field="id")
    assert dict(zip(found["easy", "raw"].labels, found["easy", "raw"].ap, strict=True)) == {
        "q": 0.25,
        "p": 1.0,
    }


def test_people_who_contradict_each_other_judge_nothing(tmp_path: Path) -> None:
    one = marked(tmp_path, "1.json", q=(["b", "c"], []))
    other = marked(tmp_path, "2.json", q=(["b"], ["c"]))
    truth = judgments_of([one, other])
    assert [truth.gallery[place] for place in truth.easy[0]] == ["b"]
    assert [truth.gallery[place] for place in truth.junk[0]] == ["c"]
    with pytest.raises(InputError, match="no result is marked right"):
        judgments_of([marked(tmp_path, "3.json", q=([], ["b"]))])


VOTE = {"query": 1, "choice": "a", "left": "a"}


@pytest.mark.parametrize(
    "about",
    [
        {"vectors": "ab"},
        {"vectors": ["raw", {"y": 1}]},
        {"collection": ["shop"]},
        {"run_id": {"a": 1}},
        {"votes": {"a": VOTE}},
        {"votes": [VOTE, VOTE | {"choice": "b"}]},
        {"votes": [VOTE | {"query": True}]},
        {"votes": [VOTE | {"query": "x" * 100_000, "choice": "y" * 100_000}]},
        {"votes": [VOTE | {"right": "12"}]},
        {"votes": [[]]},
    ],
)
def test_votes_of_another_form_are_refused_in_one_short_sentence(
    tmp_path: Path, about: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match="damaged file of votes") as refused:
        votes(tmp_path, ["a"], **about)
    assert len(str(refused.value)) < 300 + len(str(tmp_path))


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such pipes")
@pytest.mark.parametrize("place", ["pipe", "/dev/zero", "."])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, place: str) -> None:
    if place == "pipe":
        os.mkfifo(tmp_path / place)
    with pytest.raises(InputError, match="is not a file"):
        Votes.load(tmp_path / place)


def test_nobody_votes_twice_with_one_file(tmp_path: Path) -> None:
    one = votes(tmp_path, ["a"])
    again = Votes.load(tmp_path / "votes.json")
    with pytest.raises(InputError, match="given twice"):
        measure_preference([one, again])
