"""CLIP RN50, OpenAI's weights with QuickGELU.

A tag of open_clip has no revision to pin; runs record the fingerprint of the weights.
"""

from __future__ import annotations

from intramodal.paper.base import Model

DECLARED = Model(
    name="clip_rn50",
    title="CLIP RN50",
    encoder="open_clip:RN50-quickgelu:openai",
    rules="shortest side 224, bicubic, centre crop; 77 tokens; attention-pooled, projected",
    augments_shots=True,
    licence="MIT",
)
