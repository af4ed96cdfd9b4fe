"""DINOv3 B/16; the class token after the last norm."""

from __future__ import annotations

from intramodal.paper.base import Model

DECLARED = Model(
    name="dinov3_b16",
    title="DINOv3 B/16",
    encoder="hf:facebook/dinov3-vitb16-pretrain-lvd1689m@5931719e67bbdb9737e363e781fb0c67687896bc",
    has_text=False,
    licence="DINOv3 License",
    condition="accept its licence once at huggingface.co/facebook/"
    "dinov3-vitb16-pretrain-lvd1689m, then log in with `hf auth login` or set HF_TOKEN",
)
