"""Class texts alone."""

from __future__ import annotations

from intramodal.paper.base import Method

DECLARED = Method(name="zero_shot", title="Zero-shot", needs_text=True, classifier="zero-shot")
