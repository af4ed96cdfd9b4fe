"""CLIP B/32, OpenAI's weights with QuickGELU; 77 tokens, its own resize, crop and statistics."""

from __future__ import annotations

from intramodal.paper.base import Model

DECLARED = Model(
    name="clip_b32",
    title="CLIP B/32",
    encoder="open_clip:ViT-B-32-quickgelu:openai",
    augments_shots=True,
    licence="MIT",
)
