"""The images as the model embeds them."""

from __future__ import annotations

from intramodal.paper.base import Method

DECLARED = Method(name="original", title="Original", symbol="⟨I, I⟩")
