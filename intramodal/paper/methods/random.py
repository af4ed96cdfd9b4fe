"""As many random directions as PCA← keeps: what any halving does."""

from __future__ import annotations

from intramodal.paper.base import Case, Method
from intramodal.projection.controls import random_projection
from intramodal.types import Floats


def _vectors(case: Case) -> Floats:
    X = case.table.unit(case.vector)
    return random_projection(case.projection).apply_to_unit(X)


DECLARED = Method(name="random", title="Random directions", needs_text=True, vectors=_vectors)
