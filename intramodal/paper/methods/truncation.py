"""The first coordinates, as many as PCA← keeps."""

from __future__ import annotations

from intramodal.paper.base import Case, Method
from intramodal.projection.controls import truncation
from intramodal.types import Floats


def _vectors(case: Case) -> Floats:
    X = case.table.unit(case.vector)
    return truncation(case.projection).apply_to_unit(X)


DECLARED = Method(name="truncation", title="First coordinates", needs_text=True, vectors=_vectors)
