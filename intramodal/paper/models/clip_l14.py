"""CLIP L/14, OpenAI's weights with QuickGELU; 77 tokens, its own resize, crop and statistics."""

from __future__ import annotations

from intramodal.paper.base import Model

DECLARED = Model(
    name="clip_l14",
    title="CLIP L/14",
    encoder="hf:openai/clip-vit-large-patch14@32bd64288804d66eefd0ccbe215aa642df71cc41",
    augments_shots=True,
    licence="MIT",
)
