"""One decision over all fields: which vector for which searches."""

from __future__ import annotations

from intramodal.evaluation.decision import Decision
from intramodal.evaluation.verdict import Outcome

OUTCOMES: dict[str, Outcome] = {
    "category": "better",
    "kind": "not_worse",
    "gender": "worse",
    "usage": "mixed",
    "season": "inconclusive",
    "year": "inconclusive",
    "master": "too_easy",
}


def decision(outcomes: dict[str, Outcome] = OUTCOMES, collection: str | None = "shop") -> Decision:
    needs = {"season": "about 10,600 queries would tell"}
    return Decision(("image", "pca"), outcomes, needs, (512, 256), collection)


def test_every_field_is_in_one_place_of_the_sentence() -> None:
    assert decision().sentence == (
        "Use pca for category, kind; keep image for gender, usage; either will do for master; "
        "undecided: season (about 10,600 queries would tell), year. "
        "There pca takes 1,024 instead of 2,048 bytes per vector."
    )


def test_the_snippet_searches_by_what_is_adopted() -> None:
    told = decision().to_dict()
    assert told["snippet"] == "client.query_points('shop', query=POINT_ID, using='pca', limit=10)"
    assert told["use"] == {"pca": ["category", "kind"], "image": ["gender", "usage"]}
    assert told["undecided"] == {"season": "about 10,600 queries would tell", "year": None}
    assert decision(collection=None).snippet is None


def test_where_nothing_is_adopted_nothing_is_saved_or_deployed() -> None:
    kept = decision({"gender": "worse", "season": "inconclusive"})
    assert kept.sentence == (
        "Keep image for gender; undecided: season (about 10,600 queries would tell)."
    )
    assert kept.snippet is None
