"""Tip-X: images compared by their similarities to texts."""

from __future__ import annotations

from intramodal.paper.base import Method

DECLARED = Method(name="tip_x", title="Tip-X", needs_text=True, classifier="tip-x")
