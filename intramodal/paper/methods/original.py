"""The images as the model embeds them."""

from __future__ import annotations

from intramodal.paper.base import Case, Method
from intramodal.types import Floats


def _vectors(case: Case) -> Floats:
    return case.table.vectors[case.vector]


DECLARED = Method(name="original", title="Original", symbol="⟨I, I⟩", vectors=_vectors)
