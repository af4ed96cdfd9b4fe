"""Maps to try next for a field that vector B does not serve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from intramodal.evaluation.candidates import LABEL, POSTERIOR, WORDS
from intramodal.evaluation.verdict import Outcome
from intramodal.projection.projection import Projection
from intramodal.projection.stored_map import StoredMap, named_by_field
from intramodal.store.manifest import VectorOrigin

NOT_SERVED = ("worse", "mixed", "inconclusive")
NEEDS = {
    WORDS: "only the names of the values, no labels",
    LABEL: "labels of some of the images",
}
"""The maps that serve what no map of texts alone does, in the order of what they need."""
MAP_NAMES = {WORDS: "words map", LABEL: "label map"}
"""What people call them."""

Made = StoredMap | VectorOrigin
"""What made a vector: the map itself, or what the manifest says of it."""


def next_maps(field: str, outcome: Outcome, tried: Sequence[tuple[str, Made]]) -> list[str]:
    """Return the maps to try next for a field, by what made the vectors that were compared.

    None for a field that is served, and none that has been tried for this field.
    """
    if outcome not in NOT_SERVED:
        return []
    known = [_of_field(made, vector, field) for vector, made in tried]
    return [name for name in NEEDS if name not in known]


def by_map(proposed: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Return JSON values: which maps to try next, each for the fields that it is proposed for."""
    return [
        {"map": name, "needs": needs, "fields": fields}
        for name, needs in NEEDS.items()
        if (fields := [field for field, maps in proposed.items() if name in maps])
    ]


def _of_field(made: Made, vector: str, field: str) -> str | None:
    """Return which of the maps made a vector, if it did so for this field."""
    if made.method == WORDS:
        return WORDS if _words_of(made, vector) in (None, named_by_field(WORDS, field)) else None
    if made.method in (LABEL, POSTERIOR) and made.labels is not None:
        return LABEL if made.labels.field == field else None
    return None


def _words_of(made: Made, vector: str) -> str | None:
    """Return how a vector of values' names is called after its field, as far as that is known."""
    if isinstance(made, Projection):
        return made.default_vector
    return vector if vector.startswith(f"{WORDS}_") else None
