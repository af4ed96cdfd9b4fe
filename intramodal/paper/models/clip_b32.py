"""CLIP B/32, OpenAI's weights with QuickGELU."""

from __future__ import annotations

from intramodal.paper.base import Model
from intramodal.projection.isoclip import PUBLISHED

DECLARED = Model(
    name="clip_b32",
    title="CLIP B/32",
    encoder="hf:openai/clip-vit-base-patch32@3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
    rules="shortest side 224, bicubic, centre crop; 77 tokens; class token, projected",
    isoclip=PUBLISHED["hf:openai/clip-vit-base-patch32"],
    augments_shots=True,
    licence="MIT",
)
