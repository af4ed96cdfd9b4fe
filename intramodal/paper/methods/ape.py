"""APE: a cache on the features that tell the classes apart."""

from __future__ import annotations

from intramodal.paper.base import Method

DECLARED = Method(name="ape", title="APE", needs_text=True, classifier="ape")
