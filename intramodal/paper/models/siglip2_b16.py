"""SigLIP2 B/16, 224 pixels; texts in lower case, padded to 64 tokens."""

from __future__ import annotations

from intramodal.paper.base import Model

DECLARED = Model(
    name="siglip2_b16",
    title="SigLIP2 B/16",
    encoder="hf:google/siglip2-base-patch16-224",
    licence="Apache-2.0",
)
