"""DINOv2 B/14 with four registers."""

from __future__ import annotations

from intramodal.ingest.encoders.preprocess import Preprocessing
from intramodal.paper.base import Model

DECLARED = Model(
    name="dinov2_b14",
    title="DINOv2 B/14",
    encoder="hf:facebook/dinov2-with-registers-base@a1d738ccfa7ae170945f210395d99dde8adb1805",
    rules=(
        "SLIP's transform: shortest side 224, bilinear, centre crop, ImageNet statistics; "
        "class token after the last norm"
    ),
    has_text=False,
    preprocessing=Preprocessing(
        side=224,
        resize=224,
        fit="shortest",
        interpolation="bilinear",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ),
    licence="Apache-2.0",
)
