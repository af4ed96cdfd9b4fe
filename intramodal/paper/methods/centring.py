"""The images less their mean, in all dimensions."""

from __future__ import annotations

from intramodal.paper.base import Case, Method
from intramodal.projection.controls import centring
from intramodal.types import Floats


def _vectors(case: Case) -> Floats:
    X = case.table.unit(case.vector)
    return centring(case.projection, X).apply_to_unit(X)


DECLARED = Method(name="centring", title="Centred images", needs_text=True, vectors=_vectors)
