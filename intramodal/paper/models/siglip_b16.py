"""SigLIP B/16."""

from __future__ import annotations

from intramodal.paper.base import Model

DECLARED = Model(
    name="siglip_b16",
    title="SigLIP B/16",
    encoder="hf:google/siglip-base-patch16-224@7fd15f0689c79d79e38b1c2e2e2370a7bf2761ed",
    rules=(
        "224 x 224 regardless of the aspect ratio; texts padded to 64 tokens, which are "
        "all read; attention-pooled"
    ),
    licence="Apache-2.0",
)
