"""APE, with images and texts along the axes of PCA←; not in the paper."""

from __future__ import annotations

from intramodal.paper.base import Method
from intramodal.paper.methods.pca import project

DECLARED = Method(
    name="ape_pca",
    title="APE",
    symbol="PCA←",
    needs_text=True,
    project=project,
    classifier="ape",
)
