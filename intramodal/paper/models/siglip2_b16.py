"""SigLIP2 B/16."""

from __future__ import annotations

from intramodal.paper.base import Model

DECLARED = Model(
    name="siglip2_b16",
    title="SigLIP2 B/16",
    encoder="hf:google/siglip2-base-patch16-224@75de2d55ec2d0b4efc50b3e9ad70dba96a7b2fa2",
    rules=(
        "224 x 224 regardless of the aspect ratio; texts in lower case, padded to 64 "
        "tokens, which are all read; attention-pooled"
    ),
    licence="Apache-2.0",
)
