"""DINOv2 B/14 with four registers; the class token after the last norm."""

from __future__ import annotations

from intramodal.paper.base import Model

DECLARED = Model(
    name="dinov2_b14",
    title="DINOv2 B/14",
    encoder="hf:facebook/dinov2-with-registers-base@a1d738ccfa7ae170945f210395d99dde8adb1805",
    has_text=False,
    licence="Apache-2.0",
)
