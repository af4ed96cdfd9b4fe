"""Class means of the shots beside the class texts."""

from __future__ import annotations

from intramodal.paper.base import Method

DECLARED = Method(
    name="prototype_text", title="Prototype + text", needs_text=True, classifier="prototype+text"
)
