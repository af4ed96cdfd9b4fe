"""DINOv3 L/16."""

from __future__ import annotations

from intramodal.paper.base import Model

DECLARED = Model(
    name="dinov3_l16",
    title="DINOv3 L/16",
    encoder="hf:facebook/dinov3-vitl16-pretrain-lvd1689m@ea8dc2863c51be0a264bab82070e3e8836b02d51",
    rules=(
        "224 x 224 regardless of the aspect ratio, ImageNet statistics; class token after "
        "the last norm"
    ),
    has_text=False,
    licence="DINOv3 License",
    condition="accept its licence once at huggingface.co/facebook/"
    "dinov3-vitl16-pretrain-lvd1689m, then log in with `hf auth login` or set HF_TOKEN",
)
