"""Figure 2: the indicators that are said to show misalignment, for CLIP."""

from __future__ import annotations

from intramodal.paper.base import Table
from intramodal.paper.layouts import indicators

DECLARED = Table(
    name="figure2",
    title="Figure 2: cosines by class and by modality, CLIP",
    about="Overlap of same- and other-class cosines, and the gap between images and texts.",
    datasets=("dogs_vs_cats",),
    models=("clip_b16",),
    methods=("original",),
    recipe="paper-text",
    layouts=indicators,
)
