"""CLIP L/14, OpenAI's weights with QuickGELU; 77 tokens, its own resize, crop and statistics."""

from __future__ import annotations

from intramodal.paper.base import Model

DECLARED = Model(
    name="clip_l14",
    title="CLIP L/14",
    encoder="open_clip:ViT-L-14-quickgelu:openai",
    augments_shots=True,
    licence="MIT",
)
