"""PCA← after the mean of all images is subtracted; not in the paper."""

from __future__ import annotations

from intramodal.paper.base import Case, Method
from intramodal.projection.controls import centred
from intramodal.types import Floats


def _vectors(case: Case) -> Floats:
    X = case.table.unit(case.vector)
    return centred(case.projection, X).apply_to_unit(X)


DECLARED = Method(
    name="pca_centered", title="Centred PCA←", symbol="⟨I←, I←⟩", needs_text=True, vectors=_vectors
)
