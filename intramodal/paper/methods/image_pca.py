"""As many principal directions of the images themselves as PCA← keeps."""

from __future__ import annotations

from intramodal.paper.base import Case, Method
from intramodal.projection.controls import image_pca
from intramodal.projection.projection import Projection


def _project(case: Case) -> Projection:
    return image_pca(case.projection, case.table.unit(case.vector))


DECLARED = Method(name="image_pca", title="PCA of the images", needs_text=True, project=_project)
