"""PCA←: images along the main axes of class-name texts (section 3.3)."""

from __future__ import annotations

from intramodal.paper.base import Case, Method
from intramodal.types import Floats


def vectors(case: Case) -> Floats:
    """Return the images (n, k) along the axes of the recipe asked for."""
    return case.projection.apply(case.table.vectors[case.vector])


DECLARED = Method(name="pca", title="PCA←", symbol="⟨I←, I←⟩", needs_text=True, vectors=vectors)
