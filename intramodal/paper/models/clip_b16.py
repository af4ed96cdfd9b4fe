"""CLIP B/16, OpenAI's weights with QuickGELU."""

from __future__ import annotations

from intramodal.paper.base import Model
from intramodal.projection.isoclip import PUBLISHED

DECLARED = Model(
    name="clip_b16",
    title="CLIP B/16",
    encoder="hf:openai/clip-vit-base-patch16@57c216476eefef5ab752ec549e440a49ae4ae5f3",
    rules="shortest side 224, bicubic, centre crop; 77 tokens; class token, projected",
    isoclip=PUBLISHED["hf:openai/clip-vit-base-patch16"],
    augments_shots=True,
    licence="MIT",
)
