"""PCA← after the mean of all images is subtracted; not in the paper."""

from __future__ import annotations

from intramodal.paper.base import Case, Method
from intramodal.projection.controls import centred
from intramodal.projection.projection import Projection


def _project(case: Case) -> Projection:
    return centred(case.projection, case.table.unit(case.vector))


DECLARED = Method(
    name="pca_centered", title="Centred PCA←", symbol="⟨I←, I←⟩", needs_text=True, project=_project
)
