"""Tip-Adapter, with images and texts along the axes of PCA←; not in the paper."""

from __future__ import annotations

from intramodal.paper.base import Method
from intramodal.paper.methods.pca import project

DECLARED = Method(
    name="tip_adapter_pca",
    title="Tip-Adapter",
    symbol="PCA←",
    needs_text=True,
    project=project,
    classifier="tip-adapter",
)
