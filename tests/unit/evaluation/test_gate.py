"""Which outcomes fail a pipeline, and what changed since an earlier run."""

from __future__ import annotations

from typing import Any

import pytest

from intramodal.errors import InputError, MismatchError
from intramodal.evaluation.gate import FAIL_ON, Baseline, fails, gated

OUTCOMES = ("better", "not_worse", "too_easy", "mixed", "worse", "inconclusive")
ADOPTED = ("better", "not_worse")


def comparison(run_id: str = "now", **outcomes: str) -> dict[str, Any]:
    fields = {name: {"verdict": outcome} for name, outcome in outcomes.items()}
    place = {"collection": "shop", "vectors": ["raw", "pca"]}
    return {**place, "fields": fields, "run_id": run_id}


def failed(fail_on: Any, before: dict[str, str] | None = None, **outcomes: str) -> dict[str, str]:
    baseline = None if before is None else Baseline.of(comparison("then", **before))
    found = gated(comparison(**outcomes), fail_on=fail_on, baseline=baseline)["gate"]["failed"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("fail_on", "expected"),
    [
        ("worse", {"worse", "mixed"}),
        ("not-better", set(OUTCOMES) - {"better"}),
        ("not-settled", {"inconclusive"}),
    ],
)
def test_a_rule_fails_the_outcomes_of_the_issue(fail_on: Any, expected: set[str]) -> None:
    assert {outcome for outcome in OUTCOMES if fails(outcome, fail_on)} == expected


def test_another_rule_is_refused() -> None:
    with pytest.raises(InputError, match="give one of worse, not-better, not-settled"):
        fails("better", "never")  # type: ignore[arg-type]  # what a Python user may type


def test_the_gate_names_each_field_that_fails_with_its_outcome() -> None:
    given = comparison(a="better", b="not_worse", c="inconclusive")
    found = gated(given, fail_on="not-better")
    assert found["gate"] == {
        "fail_on": "not-better",
        "failed": {"b": "not worse", "c": "inconclusive"},
        "sentence": "Gate failed (not-better): b is not worse; c is inconclusive.",
    }
    passed = gated(given, fail_on="worse")["gate"]
    assert passed["failed"] == {}
    assert passed["sentence"] == "Gate passed (worse): a, b, c."


def test_what_is_not_asked_for_is_not_added() -> None:
    given = comparison(a="better")
    assert gated(given) == given
    assert set(gated(given, fail_on="worse")) - set(given) == {"gate"}
    baseline = Baseline.of(given)
    assert set(gated(given, baseline=baseline)) - set(given) == {"baseline"}


def test_fields_that_changed_came_or_went_are_named() -> None:
    baseline = Baseline.of(comparison("then", a="better", b="worse", c="mixed"))
    found = gated(comparison(d="worse", b="worse", a="too_easy"), baseline=baseline)["baseline"]
    assert found == {
        "run_id": "then",
        "changed": {"a": ["better", "too_easy"]},
        "new": ["d"],
        "gone": ["c"],
        "asked": {},
        "sentence": "Since run then: a changed from better to too easy; not in that run: d; "
        "only in that run: c.",
    }
    same = gated(comparison(a="better"), baseline=Baseline.of(comparison("then", a="better")))
    assert same["baseline"]["sentence"] == "Since run then: no field changed its outcome."


def test_another_question_than_that_of_the_baseline_is_pointed_out() -> None:
    asked = {"tasks": ["retrieval", "fewshot"], "sides": None, "margin": 0.005, "guard": 0.02}
    points = {"where": None, "sample": None, "max_queries": 5000}
    earlier = comparison("then", a="better") | points | {"asked": asked}
    now = comparison(a="worse") | points | {"where": "tenant=acme"}
    now["asked"] = asked | {"tasks": ["retrieval"], "margin": 0.01, "sides": "s=test | s=train"}
    found = gated(now, baseline=Baseline.of(earlier))["baseline"]
    assert found["asked"] == {
        "tasks": [["retrieval", "fewshot"], ["retrieval"]],
        "sides": [None, "s=test | s=train"],
        "margin": [0.005, 0.01],
        "where": [None, "tenant=acme"],
    }
    assert found["sentence"] == (
        "Since run then: a changed from better to worse. That run had other settings, which "
        "alone may change outcomes: tasks retrieval, fewshot, now retrieval; sides not given, now "
        "s=test | s=train; margin 0.005, now 0.01; where not given, now tenant=acme."
    )
    same = gated(earlier | {"run_id": "now"}, baseline=Baseline.of(earlier))["baseline"]
    assert (same["asked"], same["sentence"]) == (
        {},
        "Since run then: no field changed its outcome.",
    )
    # A run of a version that did not say what it asked.
    silent = gated(now, baseline=Baseline.of(comparison("then", a="worse")))["baseline"]
    assert silent["asked"] == {}


@pytest.mark.parametrize("fail_on", FAIL_ON)
@pytest.mark.parametrize("before", OUTCOMES)
@pytest.mark.parametrize("now", OUTCOMES)
def test_a_baseline_adds_the_fields_that_lost_their_adoption_and_excuses_none(
    fail_on: Any, before: str, now: str
) -> None:
    is_lost = before in ADOPTED and now in ("inconclusive", "mixed", "worse")
    assert bool(failed(fail_on, {"a": before}, a=now)) == (is_lost or fails(now, fail_on))


def test_a_lost_adoption_says_what_it_was_and_keeps_the_order_of_the_fields() -> None:
    found = failed(
        "not-settled", {"b": "not_worse"}, a="inconclusive", b="worse", c="inconclusive"
    )
    assert found == {
        "a": "inconclusive",
        "b": "worse (was not worse in run then)",
        "c": "inconclusive",
    }
    assert list(found) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "other",
    [{"collection": "shop_v2"}, {"vectors": ["raw", "isoclip"]}, {"vectors": ["pca", "raw"]}],
)
def test_a_baseline_of_something_else_is_refused(other: dict[str, Any]) -> None:
    earlier = comparison("then", a="better") | other
    with pytest.raises(MismatchError, match=r"run then compared .* give a run of the same"):
        gated(comparison(a="better"), baseline=Baseline.of(earlier))
