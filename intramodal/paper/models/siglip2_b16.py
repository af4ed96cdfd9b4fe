"""SigLIP2 B/16, 224 pixels; texts in lower case, padded to 64 tokens."""

from __future__ import annotations

from intramodal.paper.base import Model

DECLARED = Model(
    name="siglip2_b16",
    title="SigLIP2 B/16",
    encoder="hf:google/siglip2-base-patch16-224@75de2d55ec2d0b4efc50b3e9ad70dba96a7b2fa2",
    licence="Apache-2.0",
)
