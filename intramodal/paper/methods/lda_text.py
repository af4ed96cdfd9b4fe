"""LDA of the images beside the class texts."""

from __future__ import annotations

from intramodal.paper.base import Method

DECLARED = Method(name="lda_text", title="LDA + text", needs_text=True, classifier="lda+text")
