"""Which maps a comparison proposes for a field that B does not serve."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from intramodal.evaluation.decision import Decision
from intramodal.evaluation.next_maps import next_maps
from intramodal.evaluation.verdict import Outcome
from intramodal.fit_rows import FitRows, LabelFit
from intramodal.projection.projection import Projection
from intramodal.store.manifest import VectorOrigin

MADE = VectorOrigin("clip", "3f9a", projection="0c1d", source="raw", method="pca")
OF_KIND = LabelFit("kind", FitRows(share=0.5), {"a": 5})


@pytest.mark.parametrize("outcome", ["worse", "mixed", "inconclusive"])
def test_what_is_not_served_gets_the_map_that_needs_least_first(outcome: Outcome) -> None:
    assert next_maps("kind", outcome, [("pca", MADE)]) == ["words", "label"]


@pytest.mark.parametrize("outcome", ["better", "not_worse", "too_easy"])
def test_what_is_served_or_too_easy_gets_none(outcome: Outcome) -> None:
    assert next_maps("kind", outcome, [("pca", MADE)]) == []


@pytest.mark.parametrize("method", ["label", "posterior"])
def test_a_map_of_labels_never_proposes_itself(method: str) -> None:
    made = replace(MADE, method=method, labels=OF_KIND)
    assert next_maps("kind", "worse", [("raw", MADE), ("any name", made)]) == ["words"]
    assert next_maps("season", "worse", [("any name", made)]) == ["words", "label"]


def test_a_map_of_words_never_proposes_itself() -> None:
    made = replace(MADE, method="words")
    assert next_maps("kind", "worse", [("words_kind", made)]) == ["label"]
    assert next_maps("kind", "worse", [("words_season", made)]) == ["words", "label"]
    assert next_maps("kind", "worse", [("any name", made)]) == ["label"]  # of which field it is
    eye, recipe = np.eye(4, 2, dtype=np.float32), {"words": {"field": "season"}}
    itself = Projection(eye, "words", "clip", "3f9a", recipe=recipe)
    assert next_maps("season", "worse", [("any name", itself)]) == ["label"]
    assert next_maps("kind", "worse", [("any name", itself)]) == ["words", "label"]


def test_the_decision_groups_fields_by_the_map_that_they_need() -> None:
    outcomes: dict[str, Outcome] = {"kind": "worse", "season": "inconclusive", "hue": "better"}
    proposed = {"kind": ["words", "label"], "season": ["label"], "hue": []}
    made = Decision(("raw", "pca"), outcomes, {}, (8, 4), "shop", None, proposed)
    found = {one["map"]: one["fields"] for one in made.to_dict()["next_maps"]}
    assert found == {"words": ["kind"], "label": ["kind", "season"]}
