"""SLIP B/16 after 100 epochs on YFCC15M."""

from __future__ import annotations

from intramodal.paper.base import Model

DECLARED = Model(
    name="slip_b16",
    title="SLIP B/16",
    encoder="slip:slip_base_100ep.pt",
    rules=(
        "shortest side 224, bilinear, centre crop, ImageNet statistics; 77 tokens; class "
        "token, projected"
    ),
    licence="MIT",
    condition="download slip_base_100ep.pt from the project facebookresearch/SLIP first, and name "
    "it as slip_b16=slip:PATH",
)
