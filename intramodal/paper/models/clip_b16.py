"""CLIP B/16, OpenAI's weights with QuickGELU; 77 tokens, its own resize, crop and statistics."""

from __future__ import annotations

from intramodal.paper.base import Model

DECLARED = Model(
    name="clip_b16",
    title="CLIP B/16",
    encoder="hf:openai/clip-vit-base-patch16@57c216476eefef5ab752ec549e440a49ae4ae5f3",
    augments_shots=True,
    licence="MIT",
)
