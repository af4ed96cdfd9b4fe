"""CODER: images described by their similarities to texts."""

from __future__ import annotations

from intramodal.paper.base import Method

DECLARED = Method(name="coder", title="CODER", needs_text=True, classifier="coder")
