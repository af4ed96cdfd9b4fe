"""CLIP L/14, OpenAI's weights with QuickGELU."""

from __future__ import annotations

from intramodal.paper.base import Model
from intramodal.projection.isoclip import PUBLISHED

DECLARED = Model(
    name="clip_l14",
    title="CLIP L/14",
    encoder="hf:openai/clip-vit-large-patch14@32bd64288804d66eefd0ccbe215aa642df71cc41",
    rules="shortest side 224, bicubic, centre crop; 77 tokens; class token, projected",
    isoclip=PUBLISHED["hf:openai/clip-vit-large-patch14"],
    augments_shots=True,
    licence="MIT",
)
