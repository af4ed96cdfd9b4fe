"""DINOv3 B/16."""

from __future__ import annotations

from intramodal.paper.base import Model

DECLARED = Model(
    name="dinov3_b16",
    title="DINOv3 B/16",
    encoder="hf:facebook/dinov3-vitb16-pretrain-lvd1689m@5931719e67bbdb9737e363e781fb0c67687896bc",
    rules=(
        "224 x 224 regardless of the aspect ratio, ImageNet statistics; class token after "
        "the last norm"
    ),
    has_text=False,
    licence="DINOv3 License",
    condition="accept its licence once at huggingface.co/facebook/"
    "dinov3-vitb16-pretrain-lvd1689m, then log in with `hf auth login` or set HF_TOKEN",
)
