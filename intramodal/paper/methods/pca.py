"""PCA←: images along the main axes of class-name texts (section 3.3)."""

from __future__ import annotations

from intramodal.paper.base import Case, Method
from intramodal.projection.projection import Projection


def project(case: Case) -> Projection:
    """Return the projection of the recipe asked for."""
    return case.projection


DECLARED = Method(name="pca", title="PCA←", symbol="⟨I←, I←⟩", needs_text=True, project=project)
