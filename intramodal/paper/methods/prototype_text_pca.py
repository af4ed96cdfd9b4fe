"""Prototype + text, with images along the axes of PCA←."""

from __future__ import annotations

from intramodal.paper.base import Method
from intramodal.paper.methods.pca import project

DECLARED = Method(
    name="prototype_text_pca",
    title="Prototype + text",
    symbol="PCA←",
    needs_text=True,
    project=project,
    classifier="prototype+text",
)
