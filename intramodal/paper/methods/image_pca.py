"""As many principal directions of the images themselves as PCA← keeps."""

from __future__ import annotations

from intramodal.paper.base import Case, Method
from intramodal.projection.controls import image_pca
from intramodal.types import Floats


def _vectors(case: Case) -> Floats:
    X = case.table.unit(case.vector)
    return image_pca(case.projection, X).apply_to_unit(X)


DECLARED = Method(name="image_pca", title="PCA of the images", needs_text=True, vectors=_vectors)
