"""Tip-Adapter: shots as a cache beside the class texts."""

from __future__ import annotations

from intramodal.paper.base import Method

DECLARED = Method(
    name="tip_adapter", title="Tip-Adapter", needs_text=True, classifier="tip-adapter"
)
