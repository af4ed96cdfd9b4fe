"""The directions that PCA← discards, on their own."""

from __future__ import annotations

from intramodal.paper.base import Case, Method
from intramodal.projection.controls import bottom_components
from intramodal.types import Floats


def _vectors(case: Case) -> Floats:
    X = case.table.unit(case.vector)
    return bottom_components(case.projection).apply_to_unit(X)


DECLARED = Method(
    name="discarded", title="Discarded directions", needs_text=True, vectors=_vectors
)
