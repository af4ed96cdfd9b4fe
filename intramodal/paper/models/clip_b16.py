"""CLIP B/16, OpenAI's weights with QuickGELU; 77 tokens, its own resize, crop and statistics."""

from __future__ import annotations

from intramodal.paper.base import Model

DECLARED = Model(
    name="clip_b16",
    title="CLIP B/16",
    encoder="open_clip:ViT-B-16-quickgelu:openai",
    augments_shots=True,
    licence="MIT",
)
