"""Figure 5: the same indicators for models without and with an image-image loss."""

from __future__ import annotations

from intramodal.paper.base import Table
from intramodal.paper.layouts import indicators

DECLARED = Table(
    name="figure5",
    title="Figure 5: cosines by class and by modality, SigLIP and SigLIP2",
    about=(
        "SigLIP was trained on image-text pairs alone, SigLIP2 also on images: their histograms "
        "are alike. 5,000 images of ImageNet's validation set, all pairs (the authors drop "
        "outliers and take the first 24,612 pairs)."
    ),
    datasets=("imagenet_val",),
    models=("siglip_b16", "siglip2_b16"),
    methods=("original",),
    recipe="paper-text",
    layouts=indicators,
)
